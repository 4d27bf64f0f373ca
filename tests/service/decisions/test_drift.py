"""Drift against normal ratios that are calibrated: of variance v, means -v/2 and v/2."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from service.contract import Calibration
from service.decisions.drift import Buckets, Drift, measure_drift, median, share_above

RATES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005)
BOUNDS = (*range(-20, 21), math.inf)
DEVIATION = 3.0
GENUINE = NormalDist(DEVIATION**2 / 2, DEVIATION)
IMPOSTORS = NormalDist(-(DEVIATION**2) / 2, DEVIATION)
CALIBRATION = Calibration(
    0.0, {}, tuple((rate, IMPOSTORS.inv_cdf(1 - rate)) for rate in RATES), "normal ratios"
)


def calls(genuine: int, impostors: int) -> NDArray[np.float64]:
    """Ratios of so many of each, at even quantiles."""
    parts = [
        [side.inv_cdf((at + 0.5) / count) for at in range(count)]
        for side, count in ((GENUINE, genuine), (IMPOSTORS, impostors))
    ]
    return np.array([*parts[0], *parts[1]])


def buckets(ratios: NDArray[np.float64]) -> Buckets:
    return [(bound, float((ratios <= bound).sum())) for bound in BOUNDS]


def drifted(ratios: NDArray[np.float64]) -> Drift:
    found = measure_drift(CALIBRATION, buckets(ratios))
    assert found is not None
    return found


@pytest.mark.parametrize(("genuine", "impostors"), [(1000, 0), (900, 100), (500, 500), (0, 1000)])
def test_calibrated_calls_do_not_drift_whatever_the_share_of_impostors(
    genuine: int, impostors: int
) -> None:
    found = drifted(calls(genuine, impostors))
    assert found.distance < 0.01
    share = genuine / (genuine + impostors)
    assert share - 0.02 <= found.genuine_share <= share + 0.12


def test_what_the_calibration_implies_of_genuine_callers_holds_for_them() -> None:
    for level in drifted(calls(500, 500)).levels:
        low, high = level.genuine
        assert low - 1e-3 <= 1 - GENUINE.cdf(level.llr) <= high + 1e-3
        assert level.impostors == pytest.approx(1 - IMPOSTORS.cdf(level.llr))
        assert high - low < 0.12


@pytest.mark.parametrize(
    ("scale", "shift"),
    [(1, -2), (1, 2), (2, 0), (0.5, 0)],
    ids=["lower", "higher", "overconfident", "underconfident"],
)
def test_calls_that_are_no_longer_calibrated_drift(scale: float, shift: float) -> None:
    found = drifted(scale * calls(950, 50) + shift)
    assert found.distance > 0.05 or found.genuine_share < 0.85


def test_the_direction_of_a_drift() -> None:
    assert drifted(calls(1000, 0) + 3).upwards
    assert not drifted(calls(0, 1000) - 3).upwards


def test_without_calls_or_table_there_is_no_drift_to_tell() -> None:
    assert measure_drift(CALIBRATION, []) is None
    assert measure_drift(CALIBRATION, buckets(np.array([]))) is None
    assert measure_drift(Calibration(0, {}, (), "nothing"), buckets(calls(10, 0))) is None


def test_a_calibration_of_one_point() -> None:
    found = measure_drift(Calibration(0, {}, ((0.01, 3.0),), "little"), buckets(calls(10, 0)))
    assert found is not None
    assert found.levels[0].genuine == (pytest.approx(0.01 * math.exp(3)), 1.0)


def test_shares_and_medians_of_buckets() -> None:
    live = [(0.0, 2.0), (2.0, 6.0), (math.inf, 8.0)]
    assert [share_above(live, llr) for llr in (-5.0, 0.0, 1.0, 2.0, 9.0)] == [
        0.75,
        0.75,
        0.5,
        0.25,
        0.0,
    ]
    assert median(live) == 1.0
    assert median([(0.0, 3.0), (math.inf, 4.0)]) == 0.0
    assert median([(0.0, 1.0), (math.inf, 4.0)]) == 0.0
    assert math.isnan(median([]))
