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
