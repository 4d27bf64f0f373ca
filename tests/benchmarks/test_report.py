"""What the pages say is what the result files say."""

from benchmarks import pages, report
from benchmarks.claims import SAID
from benchmarks.figures import Figure

ONE: Figure = {
    "name": "calls_held",
    "value": 41.0,
    "unit": "calls",
    "target": 40,
    "holds": True,
    "spread": [39.0, 44.0],
    "how": "made | up",
}


def test_the_readme_says_what_was_measured() -> None:
    text = report.README.read_text(encoding="utf-8")
    section = pages.read_section(text, report.BEGIN, report.END)
    assert section == report.render_headlines(report.read_results()), "run `make bench-report`"


def test_the_page_says_what_was_measured() -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    section = pages.read_section(text, report.BEGIN, report.END)
    assert section == report.render_page(report.read_results()), "run `make bench-report`"


def test_every_result_has_all_it_takes() -> None:
    found = report.read_results()
    assert {"evaluation", "search"} <= set(found)
    assert all(set(one) == set(ONE) for figures in found.values() for one in figures)


def test_every_target_is_said_in_words() -> None:
    held = {
        one["name"]
        for figures in report.read_results().values()
        for one in figures
        if one["target"] is not None
    }
    assert held <= set(SAID), "say it in benchmarks/claims.py"


def test_the_readme_has_at_most_twelve_figures_and_says_how_many_targets_were_missed() -> None:
    found = report.read_results()
    assert len(report.HEADLINES) <= 12
    missed = sum(one["holds"] is False for figures in found.values() for one in figures)
    assert missed == report.render_page(found).partition("## Attack")[0].count("**missed**")
    assert report.read_headline_values(found)["targets_missed"] >= missed


def test_a_missed_target_stays_as_missed() -> None:
    missed = ONE | {"name": "calls_missed", "value": 12345, "holds": False}
    untold = ONE | {"name": "calls_told", "target": None, "holds": None, "spread": None}
    lines = report.render_summary({"calls": [ONE, missed, untold], "none": [untold]}).splitlines()[
        2:
    ]
    assert lines == [
        "| **`make bench-calls`** | | | |",
        "| calls held | 41 calls | 40 calls | holds |",
        "| calls missed | 12,345 calls | 40 calls | **missed** |",
    ]
    page = report.render_all({"calls": [missed, untold]})
    assert "| calls missed | 12,345 calls | 39 to 44 | 40 calls: **missed** | made / up |" in page
    assert "| calls told | 41 calls |  |  | made / up |" in page
