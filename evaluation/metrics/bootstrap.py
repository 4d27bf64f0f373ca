"""Confidence intervals that know that trials share speakers and clips.

Trials are far from independent: a speaker's voice, and a clip's channel, enter many of them.
Resampling trials alone gives intervals that are many times too narrow. Two layers are drawn
instead, speakers and then the clips of each (the joint user-specific and sample bootstrap of
Poh & Bengio 2007; whole speakers as the unit after Bolle, Ratha & Pankanti 2004), and a trial
weighs the product of what its speakers and clips were drawn. On made data these intervals are
somewhat wider than 95% needs (one layer of speakers alone is somewhat narrower), so a difference
that they show is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]

GRID = 1024
ROWS = 4096


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval that covers the true value in about 95% of repetitions."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Draws:
    """Bootstrap multiplicities: `speaker` of the unit (u, r), and of the unit within it (u, r)."""

    speaker: NDArray[np.float32]
    unit: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sides:
    """The unit (a clip, or a model of several) on each side of each trial, and its speaker."""

    enrol: Integers
    test: Integers
    speaker: Integers

    def compact(self) -> Sides:
        """The same with only the units and speakers that occur in a trial, renumbered."""
        used, sides = np.unique(np.concatenate([self.enrol, self.test]), return_inverse=True)
        enrol, test = np.split(sides, 2)
        return Sides(enrol, test, np.unique(self.speaker[used], return_inverse=True)[1])

    def select(self, keep: NDArray[np.bool_]) -> Sides:
        """The sides of the trials marked in `keep` (n,)."""
        return Sides(self.enrol[keep], self.test[keep], self.speaker)

    def draw(self, replicates: int, rng: np.random.Generator) -> Draws:
        """Speakers with replacement, then as many of each one's units as it has."""
        speakers = int(self.speaker.max()) + 1
        counts = rng.multinomial(speakers, np.full(speakers, 1 / speakers), replicates).T
        unit = np.empty((len(self.speaker), replicates), np.float32)
        for speaker in range(speakers):
            own = np.flatnonzero(self.speaker == speaker)
            unit[own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), replicates).T
        return Draws(counts[self.speaker].astype(np.float32), unit)


@dataclass(frozen=True, slots=True)
class Curves:
    """Resampled error rates at the same thresholds: (thresholds, replicates) each.

    Replicates that drew no target or no non-target trial are left out.
    """

    fmr: Floats
    fnmr: Floats

    def each(self, figure: Callable[[Floats, Floats], float]) -> Floats:
        """`figure(fmr, fnmr)` of every replicate, (replicates,)."""
        return np.array([figure(*rates) for rates in zip(self.fmr.T, self.fnmr.T, strict=True)])


def resample(
    scores: NDArray[np.floating],
    target: NDArray[np.bool_],
    sides: Sides,
    draws: Draws,
    *,
    grid: Floats | None = None,
    shares: Floats | None = None,
) -> Curves:
    """The error rates of `scores` (n,), weighed by `shares` (n,), under each of the draws.

    Row 0 accepts all, row k + 1 what is at or above `grid[k]`: by default a fine grid.
    """
    grid = _grid(scores[target], scores[~target]) if grid is None else grid
    shares = np.ones(len(scores)) if shares is None else shares
    weighed = draws.speaker * draws.unit
    masses = []
    for keep, other in ((target, draws.unit), (~target, weighed)):
        bins = np.searchsorted(grid, scores[keep], side="right").astype(np.int16)
        rows = (sides.enrol[keep], sides.test[keep])
        mass = _mass(bins, len(grid) + 1, rows, (weighed, other), shares[keep])
        masses.append(np.concatenate([np.zeros((1, mass.shape[1])), np.cumsum(mass, axis=0)]))
    drawn = (masses[0][-1] > 0) & (masses[1][-1] > 0)  # few speakers may leave a class without
    missed, rejected = (mass[:, drawn] / mass[-1, drawn] for mass in masses)
    return Curves(1 - rejected, missed)


def interval(values: Floats, level: float = 0.95) -> Interval | None:
    """The percentile interval of replicate figures (r,); None when there are none."""
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def eers(curves: Curves) -> Floats:
    """The ROCCH-EER of every replicate, (replicates,)."""
    return curves.each(metrics.eer_of_rates)


def dcfs(curves: Curves, prior: float) -> Floats:
    """The normalised minimum detection cost, unit costs, of every replicate, (replicates,)."""
    cost = prior * curves.fnmr + (1 - prior) * curves.fmr
    return np.asarray(cost.min(axis=0) / min(prior, 1 - prior))


def _grid(target: NDArray[np.floating], nontarget: NDArray[np.floating]) -> Floats:
    """Thresholds at quantiles of both classes, the non-targets' dense in their upper tail."""
    upper = 1 - np.geomspace(1 / max(len(nontarget), 2), 1, GRID // 2)
    own = np.quantile(target, np.linspace(0, 1, GRID), method="higher")
    other = np.quantile(nontarget, [*upper, *np.linspace(0, 1, GRID // 2)], method="higher")
    return np.unique(np.concatenate([own, other]).astype(np.float64))


def _mass(
    bins: Integers,
    count: int,
    rows: tuple[Integers, Integers],
    weights: tuple[NDArray[np.float32], NDArray[np.float32]],
    shares: Floats,
) -> Floats:
    """The weight that falls into each of `count` bins, (count, replicates).

    A trial weighs its share (n,) times both sides' `weights` (u, replicates) at its `rows` (n,).
    """
    order = np.argsort(bins, kind="stable")
    bins, left, right = bins[order], rows[0][order], rows[1][order]
    weighed = shares[order].astype(np.float32)[:, None]
    total = np.zeros((count, weights[0].shape[1]))
    for start in range(0, len(bins), ROWS):
        part = slice(start, start + ROWS)
        held, first = np.unique(bins[part], return_index=True)
        product = weights[0][left[part]] * weights[1][right[part]]
        product *= weighed[part]
        total[held] += np.add.reduceat(product, first, axis=0)
    return total
