"""What is called flat, and what is not."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.speed.soak import estimate_slope, judge


def samples(mb_per_minute: float, *, noise_mb: float = 0.5) -> np.ndarray:
    seconds = np.arange(1.0, 121) * 5
    noise = np.random.default_rng(0).normal(scale=noise_mb, size=len(seconds))
    return np.stack([seconds, 300 + mb_per_minute * seconds / 60 + noise], axis=1)


def test_a_slope_lies_within_its_interval() -> None:
    slope, low, high = estimate_slope(samples(2.0))
    assert low < slope < high
    assert low < 2.0 / 60 < high


@pytest.mark.parametrize(("mb_per_minute", "flat"), [(0.0, True), (0.2, True), (2.0, False)])
def test_memory_that_grows_is_not_flat(mb_per_minute: float, flat: bool) -> None:
    figures, held = judge("made", samples(mb_per_minute), Counter(stream=3))
    assert held is flat
    assert figures[0]["holds"] is flat


def test_an_outlier_makes_no_slope() -> None:
    jumped = samples(0.0)
    jumped[-2:, 1] += 500
    assert judge("made", jumped, Counter())[1]


def test_a_call_that_failed_is_told() -> None:
    figures, held = judge("made", samples(0.0), Counter({"FAILED INTERNAL": 1, "stream": 3}))
    assert not held
    assert figures[-1]["value"] == 1
