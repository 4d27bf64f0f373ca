"""The comparison as a page: what the target asks, and what is held or missed."""

import json

import pytest

from benchmarks.accuracy import systems_page
from benchmarks.accuracy.systems import POOLED, Setting, SettingRow
from benchmarks.accuracy.systems_page import REFERENCE
from evaluation.metrics.bootstrap import Interval
from evaluation.metrics.comparison import Difference
from evaluation.metrics.figures import Figure, Figures

OURS = "sayso-1"


def figures(eer: float) -> Figures:
    costs = {prior: Figure(0.5) for prior in (0.01, 0.05)}
    return Figures(10, 90, 5, Figure(eer, Interval(eer / 2, eer * 2)), eer, costs, {}, None)


def row(
    condition: str, ours: float, theirs: float, *, cross: bool, speech_s: float | None
) -> SettingRow:
    less = ours - theirs
    return SettingRow(
        Setting(condition, cross, None, None),
        speech_s,
        {
            name: {POOLED: figures(e), "made": figures(e)}
            for name, e in ((OURS, ours), (REFERENCE, theirs))
        },
        {OURS: Difference(theirs, ours, Interval(less - 0.01, less + 0.01), 0.5)},
    )


@pytest.fixture
def rows() -> list[SettingRow]:
    return [
        row("telephone", 0.20, 0.25, cross=True, speech_s=3.0),
        row("noisy", 0.25, 0.25, cross=True, speech_s=3.0),
        row("clean", 0.14, 0.10, cross=True, speech_s=3.0),
        row("clean", 0.16, 0.10, cross=False, speech_s=3.0),
        row("noisy", 0.30, 0.10, cross=False, speech_s=3.0),
        row("clean", 0.30, 0.10, cross=False, speech_s=None),
    ]


def test_the_target_is_judged_where_it_is_asked(rows: list[SettingRow]) -> None:
    found = {one.trials: one.holds for one in systems_page.judge_target(rows, OURS)}
    assert found == {
        "telephone, cross-channel": True,
        "noisy, cross-channel": False,
        "clean, cross-channel": True,
        "clean, as recorded": False,
    }


def test_the_page_says_it_in_words(rows: list[SettingRow]) -> None:
    page = systems_page.render_page(rows, [OURS, REFERENCE], "A sample.")
    assert (
        "| telephone, cross-channel | below Resemblyzer's | 20.0% | 25.0% | held "
        "| -5.0 (-6.0 to -4.0): better than Resemblyzer |"
    ) in page
    assert "| noisy, cross-channel | below Resemblyzer's | 25.0% | 25.0% | missed |" in page
    assert "| clean | full | 10, 90 | 30.0% (15.0 to 60.0) | 10.0% (5.0 to 20.0) |" in page
    assert "| clean | made | 10, 90 |" in page
    assert page.count("## EER, ") == 2


def test_the_document_holds_every_cell_and_the_target(rows: list[SettingRow]) -> None:
    told = systems_page.make_document(rows, [OURS, REFERENCE], "A sample.")
    assert json.loads(json.dumps(told)) == told
    assert [one["holds"] for one in told["target"]] == [True, False, True, False]
    assert len(told["cells"]) == len(rows)
    held = told["cells"][0]
    assert (held["condition"], held["mode"], held["speech_s"]) == (
        "telephone",
        "cross-channel",
        3.0,
    )
    assert held["figures"][OURS]["made"]["eer"] == 0.20
    assert held["less_reference"][OURS]["high"] == pytest.approx(-0.04)


def test_figures_are_of_all_speech_and_named_by_system(rows: list[SettingRow]) -> None:
    listed = systems_page.list_figures(rows, [OURS, REFERENCE], "A sample.")
    assert [one["name"] for one in listed] == [
        "systems_clean_as_recorded_ours",
        "systems_clean_as_recorded_resemblyzer",
    ]
    assert listed[0]["value"] == 30.0
    assert listed[0]["spread"] == [15.0, 60.0]
    assert "A sample." in listed[0]["how"]
