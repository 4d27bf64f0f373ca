"""Figures with their intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.metrics import comparison, fairness, figures
from evaluation.metrics.bootstrap import Interval
from evaluation.metrics.error_rates import measure_error_rates
from evaluation.metrics.sides import Sides
from evaluation.scoring import scores
from evaluation.trials import trials
from tests.evaluation.conftest import made_world

Scored = tuple[np.ndarray, np.ndarray, Sides]

worlds = st.tuples(
    st.integers(2, 12), st.integers(2, 4), st.sampled_from((0.2, 1.0, 3.0)), st.integers(0, 10**6)
)


def score(world: tuple[int, int, float, int]) -> Scored:
    speakers, clips_each, spread, seed = world
    clips, voices = made_world(speakers, clips_each, spread=spread, seed=seed)
    scored = scores.score(trials.make_pairs(clips, limit=10**6), voices)
    return scored.measures.cosine, scored.trials.target, scored.trials.sides()


def holds(interval: Interval | None, value: float) -> bool:
    return interval is None or interval.low <= value <= interval.high


@given(world=worlds, replicates=st.integers(1, 12))
def test_every_interval_holds_its_estimate(
    world: tuple[int, int, float, int], replicates: int
) -> None:
    cosine, target, sides = score(world)
    measured = figures.measure(cosine, target, sides, replicates=replicates)
    for figure in (measured.eer, *measured.min_dcf.values()):
        assert holds(figure.interval, figure.value)
    for rate in measure_error_rates(cosine, target, sides, 0.5, replicates=replicates):
        assert holds(rate.interval, rate.value)
    everyone = {"all": np.ones(len(target), bool)}
    row = fairness.measure_groups(cosine, target, sides, everyone, 0.5, replicates=replicates)[
        "all"
    ]
    assert holds(row.fmr_interval, row.fmr)
    assert holds(row.fnmr_interval, row.fnmr)


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_of_a_difference_holds_it(seed: int) -> None:
    cosine, target, sides = score((8, 3, 1.5, seed))
    noisy = cosine + np.random.default_rng(seed).normal(scale=0.2, size=len(cosine))
    for row in comparison.compare(cosine, noisy, target, sides, replicates=3).values():
        assert holds(row.interval, row.second - row.first)
