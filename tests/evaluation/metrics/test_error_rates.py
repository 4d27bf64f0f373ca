"""Error rates of the average pair of speakers at one threshold."""

from collections.abc import Callable

import numpy as np
import pytest

from evaluation.metrics.error_rates import measure_error_rates, measure_false_match_rate
from evaluation.metrics.sides import weigh_pairs_equally
from evaluation.scoring import scores
from evaluation.trials import trials


def test_rates_are_those_of_the_average_pair_of_speakers(world: Callable) -> None:
    clips, voices = world(20, 4, spread=1.5)
    scored = scores.score(trials.make_pairs(clips, limit=10**6), voices)
    cosine, target = scored.measures.cosine, scored.trials.target
    accepted, rejected = measure_error_rates(
        cosine, target, scored.trials.sides(), 0.5, replicates=30
    )
    assert accepted.value == pytest.approx(np.mean(cosine[~target] >= 0.5))
    assert rejected.value == pytest.approx(np.mean(cosine[target] < 0.5))
    assert accepted.interval is not None
    assert accepted.interval.low <= accepted.value <= accepted.interval.high


def test_weights_make_every_pair_of_speakers_weigh_the_same() -> None:
    enrol, test = np.array([0, 0, 1, 2, 2, 2]), np.array([1, 1, 0, 2, 2, 0])
    weights = weigh_pairs_equally((enrol, test))
    assert weights == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1])


def test_false_matches_alone_are_those_of_all_trials(world: Callable) -> None:
    clips, voices = world(20, 4, spread=1.5)
    scored = scores.score(trials.make_pairs(clips, limit=10**6), voices)
    cosine, others = scored.measures.cosine, ~scored.trials.target
    sides = scored.trials.sides()
    both, _ = measure_error_rates(cosine, ~others, sides, 0.5, replicates=200)
    alone = measure_false_match_rate(cosine[others] >= 0.5, sides.select(others), replicates=200)
    assert alone.value == pytest.approx(both.value)
    assert alone.interval is not None
    assert both.interval is not None
    ends = (both.interval.low, both.interval.high)
    assert (alone.interval.low, alone.interval.high) == pytest.approx(ends, abs=0.01)
