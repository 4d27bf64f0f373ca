"""Paired comparison of two systems."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from evaluation.metrics import comparison
from evaluation.scoring import calibration, scores
from evaluation.trials import trials


def scored(world: Callable, **made: float) -> scores.ScoredTrials:
    clips, voices = world(16, 4, **made)
    clips = tuple(
        replace(clip, labels={"gender": "fm"[index // 32]}) for index, clip in enumerate(clips)
    )
    return scores.score(trials.make_pairs(clips, limit=10**6), voices)


def test_a_paired_comparison_sees_what_two_intervals_do_not(world: Callable) -> None:
    held = scored(world, spread=1.5)
    target, cosine = held.trials.target, held.measures.cosine
    sides = held.trials.sides()
    noise = np.random.default_rng(0).normal(size=len(cosine))
    worse = cosine + 0.3 * noise
    found = comparison.compare(worse, cosine, target, sides, replicates=50)["EER"]
    assert found.verdict == "B is better"
    assert found.second < found.first
    back = comparison.compare(cosine, worse, target, sides, replicates=50)["EER"]
    assert back.verdict == "A is better"
    assert back.interval.low == pytest.approx(-found.interval.high)
    same = comparison.compare(cosine, cosine, target, sides, replicates=50)["EER"]
    assert (same.verdict, same.second_lower) == ("no difference shown", 0.5)


def test_the_cost_of_ratios_is_compared_with_every_pair_of_speakers_alike(world: Callable) -> None:
    held = scored(world, spread=1.5)
    target, sides = held.trials.target, held.trials.sides()
    fitted = calibration.cross_validate(held.measures, target, sides.speakers, terms=["cosine"])
    found = comparison.compare_cllr(3 * fitted + 4, fitted, target, sides, replicates=50)
    assert found.verdict == "B is better"
    cost = calibration.measure_pair_weighted_cllr(fitted, target, sides.speakers)
    assert found.second == pytest.approx(cost)
    back = comparison.compare_cllr(fitted, 3 * fitted + 4, target, sides, replicates=50)
    assert back.interval.low == pytest.approx(-found.interval.high)
