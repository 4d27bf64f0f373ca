from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.metrics.spoofing import (
    TandemCosts,
    bootstrap,
    concurrent_t_eer,
    measure_countermeasure,
    min_a_dcf,
)

scores = st.lists(st.integers(-8, 8), min_size=1, max_size=12)


def test_countermeasure_by_hand() -> None:
    # Four bona fide, four spoofed. The threshold of ASVspoof 5 is ln(0.05 * 10 / 0.95) = -0.642.
    figures = measure_countermeasure([-2.0, 0.0, 1.0, 2.0], [-3.0, -2.5, -1.0, 0.5])
    assert figures.false_alarms == 1 / 4
    assert figures.missed_spoofs == 1 / 4
    # The cost is 0.95 misses + 0.5 false accepts, over 0.5: accepting all.
    assert figures.actual_dcf == pytest.approx((0.95 / 4 + 0.5 / 4) / 0.5)
    # Best at 0.5 < t <= 1: half missed, none accepted, 0.95; or at -2: none missed, half accepted.
    assert figures.min_dcf == pytest.approx(0.5 * 0.5 / 0.5)
    assert figures.eer == pytest.approx(0.25)


def test_a_dcf_by_hand() -> None:
    # At a threshold of 2: half of the targets missed, no non-target, half of the spoofs.
    costs = TandemCosts(0.9, 0.05, 0.05, 1.0, 10.0, 20.0)
    assert costs.blind == pytest.approx(0.9)
    found = min_a_dcf([1.0, 2.0], [0.0, 0.5], [-1.0, 2.5], costs)
    everything = [
        (0.9 * missed + 0.5 * nontarget + 1.0 * spoof) / 0.9
        for missed, nontarget, spoof in (
            *((0, 1, 1), (0, 1, 0.5), (0, 0.5, 0.5), (0, 0, 0.5), (0.5, 0, 0.5)),
            *((1, 0, 0.5), (1, 0, 0)),
        )
    ]
    assert found == pytest.approx(min(everything))
    assert found == pytest.approx(0.5 / 0.9)


@given(scores, scores, scores)
def test_a_dcf_is_the_least_of_all_thresholds(
    target: list[int], nontarget: list[int], spoof: list[int]
) -> None:
    costs = TandemCosts()
    by_hand = min(
        costs.miss * costs.target_prior * np.mean(np.array(target) < threshold)
        + costs.nontarget * costs.nontarget_prior * np.mean(np.array(nontarget) >= threshold)
        + costs.spoof * costs.spoof_prior * np.mean(np.array(spoof) >= threshold)
        for threshold in np.arange(-9, 10)
    )
    found = min_a_dcf(target, nontarget, spoof)
    assert found == pytest.approx(by_hand / costs.blind)
    assert 0 <= found <= 1
    moved = [[3 * score + 1 for score in scores] for scores in (target, nontarget, spoof)]
    assert min_a_dcf(moved[0], moved[1], moved[2]) == pytest.approx(found)


def test_a_perfect_countermeasure_leaves_the_error_of_the_comparison() -> None:
    target_asv, nontarget_asv = np.arange(10) + 8.5, np.arange(10.0)  # one of ten overlaps
    spoof_asv = np.linspace(9, 18, 100)
    bona_fide = (np.full(10, 5.0), np.full(10, 5.0))
    found = concurrent_t_eer(
        (bona_fide[0], target_asv),
        (bona_fide[1], nontarget_asv),
        (np.linspace(-5, -4, 100), spoof_asv),
    )
    assert found == pytest.approx(0.1, abs=0.01)


def test_a_perfect_comparison_that_takes_every_spoof_leaves_the_countermeasures_error() -> None:
    bona_fide = np.concatenate([np.full(8, 3.0), np.full(2, -3.0)])  # a fifth below every spoof
    spoof = np.concatenate([np.full(8, -1.0), np.full(2, 5.0)])
    found = concurrent_t_eer(
        (bona_fide, np.full(10, 9.0)),
        (bona_fide, np.linspace(0, 1, 10)),
        (spoof, np.full(10, 9.0)),
    )
    # Misses 0.2 and spoofs 0.2 at one threshold; of eight tenths of non-targets, a quarter passes.
    assert found == pytest.approx(0.2, abs=0.02)


def test_a_tandem_that_separates_all_has_no_error() -> None:
    assert concurrent_t_eer(([5.0], [5.0]), ([5.0], [0.0]), ([0.0], [5.0])) == 0


@given(scores, scores, scores)
def test_t_eer_is_a_rate_and_does_not_depend_on_scale(
    target: list[int], nontarget: list[int], spoof: list[int]
) -> None:
    found = concurrent_t_eer((target, target), (nontarget, nontarget), (spoof, spoof))
    scaled = concurrent_t_eer(
        *(([2 * s + 1 for s in part], [s - 7 for s in part]) for part in (target, nontarget, spoof))
    )
    assert 0 <= found <= 1
    assert scaled == pytest.approx(found)


def test_bootstrap_draws_whole_speakers() -> None:
    speakers = ["a"] * 3 + ["b"] * 3
    seen = set()

    def figure(rows: np.ndarray) -> float:
        seen.add(tuple(sorted(rows)))
        if set(rows) == {3, 4, 5}:
            raise ValueError("a class is missing")
        return float(len(rows))

    values = bootstrap(figure, speakers, replicates=60, rng=np.random.default_rng(0))
    both, first = (0, 1, 2, 3, 4, 5), (0, 0, 1, 1, 2, 2)
    assert {both, first} <= seen
    assert all(len(rows) == 6 for rows in seen)
    assert 30 < len(values) < 60


def test_no_scores_are_an_error() -> None:
    for wrong in ([], [math.nan]):
        with pytest.raises(ValueError, match="no score"):
            min_a_dcf([1.0], [0.0], wrong)
