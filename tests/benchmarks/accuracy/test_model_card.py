"""The card takes in the comparison with other systems, when it is of the model that ships."""

from pathlib import Path

from benchmarks.accuracy import model_card


def test_a_comparison_of_this_model_comes_in_a_level_lower(tmp_path: Path) -> None:
    (tmp_path / "systems.md").write_text("EER of sayso-1.\n\n## Target\n\n### By corpus\n")
    found = model_card.read_comparison(tmp_path, "sayso-1")
    assert found == "EER of sayso-1.\n\n### Target\n\n#### By corpus\n"


def test_a_comparison_of_another_model_stays_out(tmp_path: Path) -> None:
    (tmp_path / "systems.md").write_text("EER of sayso-1.\n")
    assert not model_card.read_comparison(tmp_path, "sayso-2")
    assert not model_card.read_comparison(tmp_path / "nowhere", "sayso-1")


def test_groups_of_people_are_shown_at_one_threshold() -> None:
    rate = {"fmr_interval": {"low": 0.0, "high": 0.02}, "fnmr_interval": {"low": 0.1, "high": 0.5}}
    rows = {
        "men": {"targets": 90, "nontargets": 900, "fmr": 0.01, "fnmr": 0.2, **rate},
        "women": {"targets": 40, "nontargets": 400, "fmr": 0.012, "fnmr": 0.3, **rate},
        "few": {"targets": 4, "nontargets": 400, "fmr": 0.0, "fnmr": 1.0, **rate},
    }
    eer = {"eer": {"value": 0.05, "interval": {"low": 0.04, "high": 0.06}}}
    recorded = {
        "fairness": [{"by": "gender", "rows": rows}, {"by": "age", "rows": {"50": rows["few"]}}],
        "breakdowns": {"gender": {"women": eer}},
    }
    _, _, men, women = model_card.tabulate_fairness(recorded).splitlines()
    assert men == "| gender | men | 90 |  | 1.0% (0.0 to 2.0) | 20.0% (10.0 to 50.0) |"
    assert women.startswith("| gender | **women** | 40 | 5.0% (4.0 to 6.0) | 1.2% (0.0 to 2.0) |")
