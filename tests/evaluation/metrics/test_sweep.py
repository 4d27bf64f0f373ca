"""The metrics against slow, obviously right versions, on scores full of ties."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from evaluation import metrics
from evaluation.metrics import Sweep

Scores = list[float]
few_values = st.lists(st.integers(-4, 6), min_size=1, max_size=25)
anything = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=25)
scores = st.one_of(few_values, anything)
priors = st.sampled_from([0.001, 0.01, 0.05, 0.3, 0.5, 0.9])


def points(target: Scores, nontarget: Scores) -> list[tuple[Fraction, Fraction]]:
    """(FMR, FNMR) as fractions at every distinct threshold, from accept-all to accept-none."""
    cuts = [*sorted({*target, *nontarget}), math.inf]
    return [
        (
            Fraction(sum(score >= cut for score in nontarget), len(nontarget)),
            Fraction(sum(score < cut for score in target), len(target)),
        )
        for cut in cuts
    ]


def naive_interpolated_eer(target: Scores, nontarget: Scores) -> float:
    curve = points(target, nontarget)
    for (fmr_0, fnmr_0), (fmr_1, fnmr_1) in itertools.pairwise(curve):
        if fnmr_1 >= fmr_1:
            share = (fmr_0 - fnmr_0) / ((fmr_0 - fnmr_0) + (fnmr_1 - fmr_1))
            return float(fnmr_0 + share * (fnmr_1 - fnmr_0))
    raise AssertionError


def naive_hull_eer(target: Scores, nontarget: Scores) -> float:
    """The lowest point of the diagonal that any chord between two thresholds' points reaches."""
    best = Fraction(1)
    curve = points(target, nontarget)
    for a in curve:
        for b in curve:
            gap_a, gap_b = a[0] - a[1], b[1] - b[0]
            if gap_a >= 0 and gap_b >= 0 and gap_a + gap_b > 0:
                best = min(best, a[1] + gap_a / (gap_a + gap_b) * (b[1] - a[1]))
    return float(best)


def naive_pav(target: Scores, nontarget: Scores) -> list[list[int]]:
    """Pool adjacent violators, one score value at a time: bins of [targets, non-targets]."""
    bins: list[list[int]] = []
    for value in sorted({*target, *nontarget}):
        bins.append([target.count(value), nontarget.count(value)])
        while len(bins) > 1 and bins[-2][0] * sum(bins[-1]) >= bins[-1][0] * sum(bins[-2]):
            last = bins.pop()
            bins[-1] = [bins[-1][0] + last[0], bins[-1][1] + last[1]]
    return bins


def naive_min_cllr(target: Scores, nontarget: Scores) -> float:
    total = 0.0
    for t, u in naive_pav(target, nontarget):
        own, other = t / len(target), u / len(nontarget)
        total += own * math.log2(1 + other / own) if t else 0
        total += other * math.log2(1 + own / other) if u else 0
    return total / 2


def naive_dcf(
    point: tuple[float | Fraction, float | Fraction], prior: float, cost_miss: float, cost_fa: float
) -> float:
    cost = prior * cost_miss * point[1] + (1 - prior) * cost_fa * point[0]
    return float(cost) / min(prior * cost_miss, (1 - prior) * cost_fa)


@given(scores, scores)
def test_eer_is_the_lowest_chord_crossing(target: Scores, nontarget: Scores) -> None:
    sweep = Sweep.of(target, nontarget)
    assert metrics.eer(sweep) == pytest.approx(naive_hull_eer(target, nontarget), abs=1e-9)


@given(scores, scores)
def test_interpolated_eer(target: Scores, nontarget: Scores) -> None:
    sweep = Sweep.of(target, nontarget)
    expected = naive_interpolated_eer(target, nontarget)
    assert metrics.eer_interpolated(sweep) == pytest.approx(expected, abs=1e-9)
    assert metrics.eer(sweep) <= metrics.eer_interpolated(sweep) + 1e-9


@given(scores, scores, priors, st.sampled_from([1.0, 10.0]), st.sampled_from([1.0, 3.0]))
def test_min_dcf_is_the_least_over_all_thresholds(
    target: Scores, nontarget: Scores, prior: float, miss: float, fa: float
) -> None:
    least = min(naive_dcf(point, prior, miss, fa) for point in points(target, nontarget))
    sweep = Sweep.of(target, nontarget)
    assert metrics.min_dcf(sweep, prior, miss, fa) == pytest.approx(least, abs=1e-9)
    assert metrics.actual_dcf(sweep, prior, miss, fa) >= least - 1e-9


@given(scores, scores, priors)
def test_actual_dcf_counts_at_the_bayes_threshold(
    target: Scores, nontarget: Scores, prior: float
) -> None:
    cut = metrics.bayes_threshold(prior)
    point = (
        sum(score >= cut for score in nontarget) / len(nontarget),
        sum(score < cut for score in target) / len(target),
    )
    actual = metrics.actual_dcf(Sweep.of(target, nontarget), prior)
    assert actual == pytest.approx(naive_dcf(point, prior, 1, 1))


@given(scores, scores)
def test_cllr_and_its_minimum(target: Scores, nontarget: Scores) -> None:
    sweep = Sweep.of(target, nontarget)
    bits = [
        sum(math.log2(1 + math.exp(-x)) for x in target) / len(target),
        sum(math.log2(1 + math.exp(x)) for x in nontarget) / len(nontarget),
    ]
    assert metrics.cllr(sweep) == pytest.approx(sum(bits) / 2)
    assert metrics.min_cllr(sweep) == pytest.approx(naive_min_cllr(target, nontarget), abs=1e-9)
    assert metrics.min_cllr(sweep) <= metrics.cllr(sweep) + 1e-9


@given(scores, scores)
def test_pav_llr_are_the_bins_ratios(target: Scores, nontarget: Scores) -> None:
    starts, llr = metrics.pav_llr(Sweep.of(target, nontarget))
    assert np.all(np.diff(starts) > 0)
    assert np.all(llr[1:] >= llr[:-1] - 1e-9)
    bins = naive_pav(target, nontarget)
    with np.errstate(divide="ignore"):
        shares = np.array(bins) / [len(target), len(nontarget)]
        expected = np.log(shares[:, 0]) - np.log(shares[:, 1])
    assert np.unique(llr.round(6)) == pytest.approx(np.unique(expected.round(6)))


@given(scores, scores, st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0]))
def test_fnmr_at_fmr(target: Scores, nontarget: Scores, fmr: float) -> None:
    allowed = [fnmr for rate, fnmr in points(target, nontarget) if rate <= fmr]
    sweep = Sweep.of(target, nontarget)
    point = metrics.point_at_fmr(sweep, fmr)
    assert point.fnmr == pytest.approx(float(min(allowed)))
    assert sweep.at(point.threshold) == point
    assert metrics.fnmr_at_fmr(sweep, fmr) == point.fnmr


@given(scores, scores, st.one_of(st.integers(-5, 7), st.floats(-31, 31)))
def test_rates_at_a_threshold(target: Scores, nontarget: Scores, threshold: float) -> None:
    for dtype in (np.float32, np.float64):
        point = Sweep.of(np.array(target, dtype), np.array(nontarget, dtype)).at(threshold)
        assert point.fmr == np.mean([score >= threshold for score in nontarget])
        assert point.fnmr == np.mean([score < threshold for score in target])


def test_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    target = rng.normal(2, 1, 400).astype(np.float32).round(2)
    nontarget = rng.normal(0, 1, 3000).astype(np.float32).round(2)
    truth = np.r_[np.ones(400), np.zeros(3000)]
    fmr, tpr, _ = roc_curve(truth, np.r_[target, nontarget], drop_intermediate=False)
    sweep = Sweep.of(target, nontarget)
    crossing = np.interp(0, (fmr + tpr - 1), fmr)
    assert metrics.eer_interpolated(sweep) == pytest.approx(crossing, abs=1e-12)
    cost = np.min(0.01 * (1 - tpr) + 0.99 * fmr) / 0.01
    assert metrics.min_dcf(sweep, 0.01) == pytest.approx(cost)


def test_separable_and_reversed_scores() -> None:
    good, bad = Sweep.of([2, 3], [0, 1]), Sweep.of([0, 1], [2, 3])
    assert (metrics.eer(good), metrics.min_cllr(good), metrics.min_dcf(good, 0.01)) == (0, 0, 0)
    assert (metrics.eer(bad), metrics.min_cllr(bad), metrics.min_dcf(bad, 0.01)) == (0.5, 1, 1)
    assert metrics.eer_interpolated(bad) == 1


def test_det_is_a_short_monotonic_curve() -> None:
    rng = np.random.default_rng(2)
    fmr, fnmr = metrics.det(Sweep.of(rng.normal(1, 1, 20_000), rng.normal(0, 1, 30_000)), 100)
    assert len(fmr) <= 200
    assert np.all(np.diff(fmr) <= 0)
    assert np.all(np.diff(fnmr) >= 0)


@pytest.mark.parametrize("bad", [[], [math.nan, 1.0], [math.inf]])
def test_refuses_what_cannot_be_ranked(bad: Scores) -> None:
    with pytest.raises(ValueError, match="target score"):
        Sweep.of(bad, [0.0])
    with pytest.raises(ValueError, match="non-target score"):
        Sweep.of([0.0], bad)


@pytest.mark.parametrize("prior", [0, 1, -0.1])
def test_refuses_a_prior_that_is_none(prior: float) -> None:
    with pytest.raises(ValueError, match="prior"):
        metrics.min_dcf(Sweep.of([1], [0]), prior)
