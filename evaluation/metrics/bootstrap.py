"""Confidence intervals for trials that share speakers and clips.

Trials are far from independent: one speaker's voice, and one clip's channel, enter many of them.
Resampling trials alone gives intervals that are many times too narrow. Instead two layers are
drawn, speakers and then the clips of each speaker (the joint user-specific and sample bootstrap of
Poh & Bengio 2007; whole speakers as the unit after Bolle, Ratha & Pankanti 2004), and a trial
weighs the product of how often its speakers and clips were drawn. On synthetic data these
intervals are somewhat wider than 95% needs (one layer of speakers alone is somewhat narrower), so
a difference that they show is real.

Sides ─> draw ─> Draws ─> resample(scores) ─> Curves ─> a figure per replicate ─> Interval
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.metrics.sides import Floats, Integers, Sides

GRID = 1024
ROWS = 4096


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval that covers the true value in about 95% of repetitions."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Draws:
    """How often each replicate drew a unit's speaker and the unit itself, (units, replicates)."""

    speaker: NDArray[np.float32]
    unit: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Curves:
    """Resampled error rates at the same thresholds, (thresholds, replicates) each.

    Replicates that drew no target or no non-target trial are left out.
    """

    fmr: Floats
    fnmr: Floats

    def measure(self, figure: Callable[[Floats, Floats], float]) -> Floats:
        """`figure(fmr, fnmr)` of every replicate, (replicates,)."""
        return np.array([figure(*rates) for rates in zip(self.fmr.T, self.fnmr.T, strict=True)])


def draw(sides: Sides, replicates: int, rng: np.random.Generator) -> Draws:
    """Draw speakers with replacement, then as many units of each speaker as it has."""
    speakers = int(sides.speaker.max()) + 1
    counts = rng.multinomial(speakers, np.full(speakers, 1 / speakers), replicates).T
    unit = np.empty((len(sides.speaker), replicates), np.float32)
    for speaker in range(speakers):
        own = np.flatnonzero(sides.speaker == speaker)
        unit[own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), replicates).T
    return Draws(counts[sides.speaker].astype(np.float32), unit)


def resample(
    scores: NDArray[np.floating],
    target: NDArray[np.bool_],
    sides: Sides,
    draws: Draws,
    *,
    grid: Floats | None = None,
    trial_weights: Floats | None = None,
) -> Curves:
    """The error rates of `scores` (n,), weighted by `trial_weights` (n,), under each of the draws.

    Row 0 accepts everything, row k + 1 what is at or above `grid[k]`; the default grid is fine.
    """
    grid = _choose_grid(scores[target], scores[~target]) if grid is None else grid
    trial_weights = np.ones(len(scores)) if trial_weights is None else trial_weights
    unit_weights = draws.speaker * draws.unit
    masses = []
    # Both sides of a target trial are one speaker's, whose draw counts once.
    for keep, test_weights in ((target, draws.unit), (~target, unit_weights)):
        bins = np.searchsorted(grid, scores[keep], side="right").astype(np.int16)
        rows = (sides.enrol[keep], sides.test[keep])
        mass = _sum_by_bin(
            bins, len(grid) + 1, rows, (unit_weights, test_weights), trial_weights[keep]
        )
        masses.append(np.concatenate([np.zeros((1, mass.shape[1])), np.cumsum(mass, axis=0)]))
    complete = (masses[0][-1] > 0) & (masses[1][-1] > 0)  # a draw of few speakers may lack a class
    missed, rejected = (mass[:, complete] / mass[-1, complete] for mass in masses)
    return Curves(1 - rejected, missed)


def resample_mean(
    values: Floats,
    target: NDArray[np.bool_],
    sides: Sides,
    draws: Draws,
    *,
    trial_weights: Floats,
) -> tuple[Floats, Floats]:
    """The means of `values` (n,) over the target and over the non-target trials under each draw.

    Trials weigh `trial_weights` (n,). Both means are (replicates,), NaN if a draw has no such
    trial.
    """
    unit_weights = draws.speaker * draws.unit
    one_bin = np.zeros(len(values), np.int16)
    means = []
    for keep, test_weights in ((target, draws.unit), (~target, unit_weights)):
        rows = (sides.enrol[keep], sides.test[keep])
        weights = (unit_weights, test_weights)
        [total] = _sum_by_bin(one_bin[keep], 1, rows, weights, (trial_weights * values)[keep])
        [mass] = _sum_by_bin(one_bin[keep], 1, rows, weights, trial_weights[keep])
        means.append(np.divide(total, mass, out=np.full(len(mass), np.nan), where=mass > 0))
    return means[0], means[1]


def percentile_interval(values: Floats, estimate: float, level: float = 0.95) -> Interval | None:
    """The percentile interval of a figure's replicates (r,); None when there are none.

    It is widened to hold the `estimate`. A minimum over thresholds, as EER and minDCF are, is
    biased in a draw of few speakers, and all replicates may lie on one side of the estimate.
    """
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(min(float(low), estimate), max(float(high), estimate))


def resample_eer(curves: Curves) -> Floats:
    """The ROCCH-EER of every replicate, (replicates,)."""
    return curves.measure(metrics.eer_of_rates)


def resample_min_dcf(curves: Curves, prior: float) -> Floats:
    """The normalized minimum detection cost, unit costs, of every replicate, (replicates,)."""
    cost = prior * curves.fnmr + (1 - prior) * curves.fmr
    return np.asarray(cost.min(axis=0) / min(prior, 1 - prior))


def _choose_grid(target: NDArray[np.floating], nontarget: NDArray[np.floating]) -> Floats:
    """Thresholds at quantiles of both classes, the non-targets' dense in their upper tail."""
    upper = 1 - np.geomspace(1 / max(len(nontarget), 2), 1, GRID // 2)
    own = np.quantile(target, np.linspace(0, 1, GRID), method="higher")
    other = np.quantile(nontarget, [*upper, *np.linspace(0, 1, GRID // 2)], method="higher")
    return np.unique(np.concatenate([own, other]).astype(np.float64))


def _sum_by_bin(
    bins: Integers,
    count: int,
    rows: tuple[Integers, Integers],
    unit_weights: tuple[NDArray[np.float32], NDArray[np.float32]],
    trial_weights: Floats,
) -> Floats:
    """The weight that falls into each of `count` bins, (count, replicates).

    A trial weighs its own weight times both sides' `unit_weights` (units, replicates) at its
    `rows` (n,).
    """
    order = np.argsort(bins, kind="stable")
    bins, left, right = bins[order], rows[0][order], rows[1][order]
    weights = trial_weights[order].astype(np.float32)[:, None]
    total = np.zeros((count, unit_weights[0].shape[1]))
    for start in range(0, len(bins), ROWS):
        part = slice(start, start + ROWS)
        present, first = np.unique(bins[part], return_index=True)
        product = unit_weights[0][left[part]] * unit_weights[1][right[part]]
        product *= weights[part]
        total[present] += np.add.reduceat(product, first, axis=0)
    return total
