"""Costs and error rates of a countermeasure, alone and together with speaker verification.

bona fide, spoofed scores ─> Sweep ─> eer, min_dcf, actual_dcf with the priors of ASVspoof 5
target, non-target, spoofed scores of one system ─> min_a_dcf
scores of countermeasure and of comparison ─> concurrent_t_eer

Scores are higher the more they speak for bona fide, or for the claimed speaker. A trial is accepted
when its score is at or above the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.metrics.sweep import Sweep, actual_dcf, bayes_threshold, eer, min_dcf

Doubles = NDArray[np.float64]

# ASVspoof 5 (Wang et al. 2024): a spoof is rarer than a caller, and ten times as dear.
BONA_FIDE_PRIOR, COST_MISS, COST_FA = 0.95, 1.0, 10.0


@dataclass(frozen=True, slots=True)
class TandemCosts:
    """Priors and costs of the a-DCF: those of Shim et al. 2024, which ASVspoof 5 took over."""

    target_prior: float = 0.9
    nontarget_prior: float = 0.05
    spoof_prior: float = 0.05
    miss: float = 1.0
    nontarget: float = 10.0
    spoof: float = 20.0

    @property
    def blind(self) -> float:
        """The cost of the better of accepting all and rejecting all."""
        accepting = self.nontarget * self.nontarget_prior + self.spoof * self.spoof_prior
        return min(self.miss * self.target_prior, accepting)


SHIM = TandemCosts()


@dataclass(frozen=True, slots=True)
class CountermeasureFigures:
    """Error rates and costs of a countermeasure; `actual_dcf` takes scores as natural-log
    likelihood ratios. The two alarms are at the threshold of `actual_dcf`."""

    eer: float
    min_dcf: float
    actual_dcf: float
    false_alarms: float
    missed_spoofs: float


def measure_countermeasure(bona_fide: ArrayLike, spoofed: ArrayLike) -> CountermeasureFigures:
    """Figures of (n,) bona fide and (m,) spoofed scores; ValueError if empty or not finite."""
    sweep = Sweep.of(bona_fide, spoofed)
    costs = (BONA_FIDE_PRIOR, COST_MISS, COST_FA)
    point = sweep.at(bayes_threshold(*costs))
    return CountermeasureFigures(
        eer(sweep), min_dcf(sweep, *costs), actual_dcf(sweep, *costs), point.fnmr, point.fmr
    )


def min_a_dcf(
    target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike, costs: TandemCosts = SHIM
) -> float:
    """The architecture-agnostic detection cost at the best threshold, over that of the better
    blind decision (Shim et al., Odyssey 2024).

    The scores (n,), (m,), (k,) are those of the whole system, one for a trial.
    """
    sorted_scores = [_sort(scores) for scores in (target, nontarget, spoof)]
    thresholds = np.append(np.unique(np.concatenate(sorted_scores)), np.inf)
    missed, nontargets, spoofs = _reject_rates(sorted_scores, thresholds)
    cost = (
        costs.miss * costs.target_prior * missed
        + costs.nontarget * costs.nontarget_prior * (1 - nontargets)
        + costs.spoof * costs.spoof_prior * (1 - spoofs)
    )
    return float(cost.min() / costs.blind)


def concurrent_t_eer(
    target: tuple[ArrayLike, ArrayLike],
    nontarget: tuple[ArrayLike, ArrayLike],
    spoof: tuple[ArrayLike, ArrayLike],
    *,
    thresholds: int = 2000,
) -> float:
    """Where misses, false matches and accepted spoofs of the tandem are alike.

    Each class has the scores of the countermeasure and those of the comparison, (n,) each. The two
    are taken to err independently, as in Kinnunen et al. 2023, "t-EER: parameter-free tandem
    evaluation of countermeasures and biometric comparators". The mean of the three rates at the
    pair of thresholds where they differ least; with more distinct comparison scores than
    `thresholds`, so many of their quantiles are tried.
    """
    cm_target, cm_nontarget, cm_spoof = (_sort(scores[0]) for scores in (target, nontarget, spoof))
    asv = [_sort(scores[1]) for scores in (target, nontarget, spoof)]
    cm_bona_fide = np.sort(np.concatenate([cm_target, cm_nontarget]))
    cm_thresholds = np.append(np.unique(np.concatenate([cm_bona_fide, cm_spoof])), np.inf)
    cm_missed, cm_rejected = _reject_rates([cm_bona_fide, cm_spoof], cm_thresholds)
    candidates = np.append(np.unique(np.concatenate(asv)), np.inf)
    if len(candidates) > thresholds:
        candidates = candidates[np.linspace(0, len(candidates) - 1, thresholds).astype(int)]
    asv_missed, asv_rejected, asv_spoofs = _reject_rates(asv, candidates)
    best, found = np.inf, 1.0
    for missed, nontargets, spoofs in zip(asv_missed, asv_rejected, asv_spoofs, strict=True):
        rates = np.stack(
            [
                cm_missed + (1 - cm_missed) * missed,
                (1 - cm_missed) * (1 - nontargets),
                (1 - cm_rejected) * (1 - spoofs),
            ]
        )
        spread = np.ptp(rates, axis=0)
        place = int(np.argmin(spread))
        if spread[place] < best:
            best, found = float(spread[place]), float(rates[:, place].mean())
    return found


def bootstrap(
    figure: Callable[[NDArray[np.intp]], float | Sequence[float]],
    speakers: Sequence[str],
    *,
    replicates: int,
    rng: np.random.Generator,
) -> Doubles:
    """`figure(rows)` of draws of whole speakers with replacement, (replicates,), or (replicates, k)
    if it has k values.

    `speakers` (n,) are those of the trials that `figure` is given by index. Draws in which a class
    is missing, for which `figure` raises ValueError, are left out.
    """
    _, numbers = np.unique(np.asarray(speakers), return_inverse=True)
    rows = [np.flatnonzero(numbers == number) for number in range(int(numbers.max()) + 1)]
    values = []
    for _ in range(replicates):
        drawn = rng.integers(len(rows), size=len(rows))
        try:
            values.append(figure(np.concatenate([rows[speaker] for speaker in drawn])))
        except ValueError:
            continue
    return np.array(values)


def _sort(scores: ArrayLike) -> Doubles:
    values = np.sort(np.asarray(scores, np.float64), axis=None)
    if not len(values) or not np.isfinite(values[[0, -1]]).all():
        raise ValueError("a class has no score, or one that is not finite")
    return values


def _reject_rates(sorted_scores: Sequence[Doubles], thresholds: Doubles) -> list[Doubles]:
    """The share of each class below each threshold, (thresholds,) for every class."""
    return [
        np.searchsorted(scores, thresholds, side="left") / len(scores) for scores in sorted_scores
    ]
