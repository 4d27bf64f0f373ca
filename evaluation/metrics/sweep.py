"""Error rates and information measures of verification scores, exact under ties.

    sweep = Sweep.of(target, nontarget)      one sort; all that follows is cheap
    eer(sweep), min_dcf(sweep, 0.01), actual_dcf(sweep, 0.01), cllr(sweep), min_cllr(sweep)

A trial is accepted when its score is at or above the threshold. FMR (false-match rate) is the
fraction of non-targets accepted, FNMR (false-non-match rate) that of targets rejected, as in
ISO/IEC 19795-1. Both are counted, so equal scores never depend on their order.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

Floats = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]
Counts = NDArray[np.int64]

CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Point:
    """One operating point: accept at or above `threshold`."""

    threshold: float
    fmr: float
    fnmr: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Sorted scores and the corners of their trade-off, by rising threshold.

    `threshold`, `misses`, `false_matches` are (k,): the first corner accepts all, the last
    nothing, and every threshold that is best for some cost is among them. `hull` (h,) indexes
    the corners that are vertices of the ROC convex hull.
    """

    target: Floats
    nontarget: Floats
    threshold: Doubles
    misses: Counts
    false_matches: Counts
    hull: Counts

    @classmethod
    def of(cls, target: ArrayLike, nontarget: ArrayLike) -> Sweep:
        """Sort `target` (n,) and `nontarget` (m,) and sweep; ValueError if empty or not finite."""
        targets, nontargets = _sort(target, "target"), _sort(nontarget, "non-target")
        corners = _corners(targets, nontargets)
        return cls(targets, nontargets, *corners, _hull(*corners[1:]))

    @property
    def fmr(self) -> Doubles:
        """False-match rate at each corner, (k,), falling."""
        return self.false_matches / len(self.nontarget)

    @property
    def fnmr(self) -> Doubles:
        """False-non-match rate at each corner, (k,), rising."""
        return self.misses / len(self.target)

    def at(self, threshold: float) -> Point:
        """The error rates of a threshold fixed beforehand."""
        misses = _count_below(self.target, threshold)
        false_matches = len(self.nontarget) - _count_below(self.nontarget, threshold)
        return Point(threshold, false_matches / len(self.nontarget), misses / len(self.target))


def eer(sweep: Sweep) -> float:
    """Equal error rate of the ROC convex hull (ROCCH-EER), never above `eer_interpolated`.

    It is also the largest equal-cost minDCF over all priors (Brümmer & de Villiers 2013).
    """
    return _balance(sweep.fmr[sweep.hull], sweep.fnmr[sweep.hull])


def eer_of_rates(fmr: Doubles, fnmr: Doubles) -> float:
    """ROCCH-EER of a curve given as rates (k,), from accepting all to accepting nothing."""
    vertices = _hull(fnmr, fmr)
    return _balance(fmr[vertices], fnmr[vertices])


def eer_interpolated(sweep: Sweep) -> float:
    """Equal error rate where the line through the points of all thresholds crosses FMR = FNMR."""
    score = min(_first_balanced(sweep, own) for own in (sweep.target, sweep.nontarget))
    below, above = sweep.at(score), sweep.at(math.nextafter(score, math.inf))
    return _find_crossing((below.fmr, below.fnmr), (above.fmr, above.fnmr))


def min_dcf(sweep: Sweep, prior: float, cost_miss: float = 1.0, cost_fa: float = 1.0) -> float:
    """Detection cost at the best threshold, over that of the better blind decision (NIST SRE)."""
    miss, fa = _dcf_weights(prior, cost_miss, cost_fa)
    best = min_dcf_point(sweep, prior, cost_miss, cost_fa)
    return miss * best.fnmr + fa * best.fmr


def min_dcf_point(
    sweep: Sweep, prior: float, cost_miss: float = 1.0, cost_fa: float = 1.0
) -> Point:
    """Where the detection cost is least: a vertex of the convex hull."""
    miss, fa = _dcf_weights(prior, cost_miss, cost_fa)
    cost = miss * sweep.fnmr[sweep.hull] + fa * sweep.fmr[sweep.hull]
    return _corner(sweep, int(sweep.hull[np.argmin(cost)]))


def actual_dcf(sweep: Sweep, prior: float, cost_miss: float = 1.0, cost_fa: float = 1.0) -> float:
    """Detection cost, normalized as `min_dcf`, of scores taken as natural-log likelihood ratios."""
    miss, fa = _dcf_weights(prior, cost_miss, cost_fa)
    point = sweep.at(bayes_threshold(prior, cost_miss, cost_fa))
    return miss * point.fnmr + fa * point.fmr


def bayes_threshold(prior: float, cost_miss: float = 1.0, cost_fa: float = 1.0) -> float:
    """The natural-log likelihood ratio from which accepting costs less than rejecting."""
    _dcf_weights(prior, cost_miss, cost_fa)
    return math.log((1 - prior) * cost_fa) - math.log(prior * cost_miss)


def cllr(sweep: Sweep) -> float:
    """Cost of the log-likelihood ratio in bits, for natural-log ratios (Brümmer & du Preez 2006).

    0 is perfect, 1 is what knowing nothing costs, and above 1 is worse than knowing nothing.
    """
    return (_mean_bits(sweep.target, -1.0) + _mean_bits(sweep.nontarget, 1.0)) / 2


def min_cllr(sweep: Sweep) -> float:
    """Cllr after the best monotonic calibration of these very scores (pool adjacent violators)."""
    target, nontarget = _hull_bins(sweep)
    return (_entropy_share(target, nontarget) + _entropy_share(nontarget, target)) / 2


def pav_llr(sweep: Sweep) -> tuple[Doubles, Doubles]:
    """The best monotonic calibration: scores (b,) where a bin begins, natural-log ratios (b,)."""
    target, nontarget = _hull_bins(sweep)
    with np.errstate(divide="ignore"):
        return sweep.threshold[sweep.hull[:-1]], np.log(target) - np.log(nontarget)


def point_at_fmr(sweep: Sweep, fmr: float) -> Point:
    """The corner of lowest FNMR whose FMR is at most `fmr`."""
    allowed = math.floor(fmr * len(sweep.nontarget) + 1e-9)
    return _corner(sweep, int(np.argmax(sweep.false_matches <= allowed)))


def fnmr_at_fmr(sweep: Sweep, fmr: float) -> float:
    """The lowest false-non-match rate whose false-match rate is at most `fmr`."""
    return point_at_fmr(sweep, fmr).fnmr


def det(sweep: Sweep, points: int = 1000) -> tuple[Doubles, Doubles]:
    """At most about `2 * points` (FMR, FNMR) corners, dense where either rate is small."""
    last = len(sweep.threshold) - 1
    spread = np.geomspace(1, last + 1, points).astype(np.int64) - 1
    keep = np.unique(np.concatenate([spread, last - spread]))
    return sweep.fmr[keep], sweep.fnmr[keep]


def _sort(scores: ArrayLike, name: str) -> Floats:
    values: NDArray[Any] = np.asarray(scores)
    if values.dtype != np.float32:
        values = values.astype(np.float64)
    values = np.sort(values, axis=None)
    if not len(values):
        raise ValueError(f"there is no {name} score")
    if not (np.isfinite(values[0]) and np.isfinite(values[-1])):  # NaN sorts last
        raise ValueError(f"a {name} score is not finite")
    return values


def _corners(target: Floats, nontarget: Floats) -> tuple[Doubles, Counts, Counts]:
    """Thresholds at the distinct scores of the smaller class; the best ones need no others."""
    n, m = len(target), len(nontarget)
    if n <= m:
        misses = _first_of_each(target)
        own = target[misses]
        false_matches = m - np.searchsorted(nontarget, own, side="left")
    else:
        starts = _first_of_each(nontarget)
        own = nontarget[starts]
        misses = np.searchsorted(target, own, side="right")
        false_matches = m - np.append(starts[1:], m)
    above = own.astype(np.float64) if n <= m else np.nextafter(own.astype(np.float64), np.inf)
    return (
        np.concatenate([[-np.inf], above, [np.inf]]),
        np.concatenate([[0], misses, [n]]),
        np.concatenate([[m], false_matches, [0]]),
    )


def _first_of_each(values: Floats) -> Counts:
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])


def _hull(misses: NDArray[Any], false_matches: NDArray[Any]) -> Counts:
    """Vertices of the lower-left hull: isotonic regression of the target share of each step."""
    target, nontarget = np.diff(misses), -np.diff(false_matches)
    steps = np.flatnonzero(target + nontarget)
    weight = (target + nontarget)[steps].astype(np.float64)
    blocks = isotonic_regression(target[steps] / weight, weights=weight).blocks
    return np.append(steps[blocks[:-1]], len(misses) - 1)


def _corner(sweep: Sweep, index: int) -> Point:
    return Point(float(sweep.threshold[index]), float(sweep.fmr[index]), float(sweep.fnmr[index]))


def _balance(fmr: Doubles, fnmr: Doubles) -> float:
    """Where a curve of rates, from accepting all to accepting nothing, meets FMR = FNMR."""
    after = int(np.argmax(fnmr >= fmr))
    return _find_crossing((fmr[after - 1], fnmr[after - 1]), (fmr[after], fnmr[after]))


def _hull_bins(sweep: Sweep) -> tuple[Doubles, Doubles]:
    """The share of each class that falls between neighboring hull vertices, (h - 1,)."""
    return np.diff(sweep.fnmr[sweep.hull]), -np.diff(sweep.fmr[sweep.hull])


def _find_crossing(below: tuple[float, float], above: tuple[float, float]) -> float:
    """Where the line between two (FMR, FNMR) points meets FMR = FNMR."""
    gap_below, gap_above = below[0] - below[1], above[1] - above[0]
    share = gap_below / (gap_below + gap_above)
    return float(below[1] + share * (above[1] - below[1]))


def _first_balanced(sweep: Sweep, own: Floats) -> float:
    """The lowest score of `own` (n,) above which FNMR is no longer under FMR."""
    n, m = len(sweep.target), len(sweep.nontarget)

    def balanced(index: int) -> bool:
        misses = int(np.searchsorted(sweep.target, own[index], side="right"))
        false_matches = m - int(np.searchsorted(sweep.nontarget, own[index], side="right"))
        return misses * m >= false_matches * n

    return float(own[bisect_left(range(len(own)), True, key=balanced)])


def _count_below(values: Floats, threshold: float) -> int:
    """How many sorted values are under `threshold`, compared exactly and without a copy."""
    cut = values.dtype.type(threshold)
    cut = np.nextafter(cut, values.dtype.type(np.inf)) if float(cut) < threshold else cut
    return int(np.searchsorted(values, cut, side="left"))


def _dcf_weights(prior: float, cost_miss: float, cost_fa: float) -> tuple[float, float]:
    if not (0 < prior < 1 and cost_miss > 0 and cost_fa > 0):
        raise ValueError("a prior lies between 0 and 1, and costs are above 0")
    miss, fa = prior * cost_miss, (1 - prior) * cost_fa
    return miss / min(miss, fa), fa / min(miss, fa)


def _mean_bits(llr: Floats, sign: float) -> float:
    """Mean of log2(1 + exp(sign * llr)), a chunk at a time."""
    total = 0.0
    for start in range(0, len(llr), CHUNK):
        x = sign * llr[start : start + CHUNK].astype(np.float64)
        total += float(np.sum(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))))
    return total / len(llr) / math.log(2)


def _entropy_share(own: Doubles, other: Doubles) -> float:
    held = own > 0
    return float(np.sum(own[held] * np.log2(1 + other[held] / own[held])))
