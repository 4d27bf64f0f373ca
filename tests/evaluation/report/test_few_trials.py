"""Which rows are grayed."""

from typing import Any

import pytest

from evaluation.report import few_trials


def row(targets: int, nontargets: int, eer: float, low: float, high: float) -> dict[str, Any]:
    interval = {"low": low, "high": high}
    return {
        "targets": targets,
        "nontargets": nontargets,
        "eer": {"value": eer, "interval": interval},
    }


@pytest.mark.parametrize(
    ("measured", "few"),
    [
        (row(30, 30, 0.05, 0.04, 0.06), False),
        (row(29, 3000, 0.05, 0.04, 0.06), True),
        (row(3000, 29, 0.05, 0.04, 0.06), True),
        (row(300, 3000, 0.05, 0.02, 0.069), False),
        (row(300, 3000, 0.05, 0.02, 0.071), True),
        (row(300, 3000, 0.0, 0.0, 0.0), True),
        ({"targets": 300, "nontargets": 300, "eer": {"value": 0.1, "interval": None}}, False),
        ({"targets": 300, "nontargets": 300, "fmr": 0.0}, False),
    ],
)
def test_few_trials_or_an_interval_as_wide_as_the_rate(measured: dict[str, Any], few: bool) -> None:
    assert few_trials.has_too_few(measured) is few
