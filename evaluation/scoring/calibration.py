"""Calibration: from a score and its quality measures to a natural-log likelihood ratio.

Logistic regression with Brümmer's prior-weighted objective (Brümmer & du Preez 2006): targets and
non-targets weigh what the prior says and not how many there are, so that
`bias + weights . terms` is a log-likelihood ratio. Every speaker, and every pair of speakers,
weighs the same however many clips there are of them. It is judged by cross-validation over
speakers.

A caller chooses how long and in how much noise to speak. So a ratio may fall with the quality of
what is heard and never rise as it falls: the weights of `RISING` are not negative. Otherwise an
impostor would be accepted for speaking less, or through noise, as a speaker is often heard so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.errors import EvaluationError
from evaluation.scoring.measures import Measures, design
from service.contract import Calibration

Floats = NDArray[np.float64]
Sides = tuple[NDArray[np.integer], NDArray[np.integer]]  # the speaker of each side, (n,) each

RATES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0001)
ERRORS_NEEDED = 30  # Doddington's rule: a rate needs 30 errors to be known within about 30%
FOLDS = 5
LEAST_IN_BIN = 5
MOST_OF_A_PAIR = 200
RIDGE = 1e-6
RISING = ("log_test_speech", "snr")
STEPS = 50
TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True)
class Affine:
    """`llr = bias + columns @ weights`."""

    bias: float
    weights: Floats

    def __call__(self, columns: Floats) -> Floats:
        """Natural-log likelihood ratios (n,) of `columns` (n, terms)."""
        llr: Floats = columns @ self.weights + self.bias
        return llr


def fit(
    columns: Floats,
    target: NDArray[np.bool_],
    *,
    shares: Floats | None = None,
    prior: float = 0.5,
    ridge: Floats | float = RIDGE,
    start: Affine | None = None,
    rising: NDArray[np.bool_] | None = None,
) -> Affine:
    """Minimise the prior-weighted logistic cost over `columns` (n, terms) by Newton's method.

    `shares` (n,) weigh the trials within their class. `prior` is the effective target prior that
    the fit cares most about. `ridge`, one for each term or for all, holds back the weights of the
    standardised columns; the slight one that it is by default keeps separable data finite. The
    weights marked in `rising` (terms,) are at least 0.
    """
    if target.all() or not target.any():
        raise EvaluationError("a calibration needs target and non-target trials")
    centre, scale = columns.mean(axis=0), columns.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    x = np.column_stack([np.ones(len(columns)), (columns - centre) / scale])
    shares = np.ones(len(target)) if shares is None else shares
    in_class = np.where(target, prior / shares[target].sum(), (1 - prior) / shares[~target].sum())
    beta = np.zeros(x.shape[1])
    if start is not None:
        beta = np.append(start.bias + centre @ start.weights, start.weights * scale)
    penalty = np.append(0.0, np.broadcast_to(ridge, len(scale)))
    weight = shares * in_class
    problem = _Logistic(x, target.astype(float), weight, np.log(prior / (1 - prior)), penalty)
    bounded = np.flatnonzero(rising) + 1 if rising is not None else np.array([], int)
    beta = problem.minimum(beta, bounded)
    weights = beta[1:] / scale
    return Affine(float(beta[0] - centre @ weights), weights)


def cross_validated(
    measures: Measures,
    target: NDArray[np.bool_],
    speakers: Sides,
    *,
    terms: Sequence[str],
    folds: int = FOLDS,
    prior: float = 0.5,
    seed: int = 0,
) -> Floats:
    """LLR (n,) of each trial by a calibration that saw neither of its two speakers.

    `speakers` are the enrolled and the heard speaker of each trial, (n,) each, as small integers.
    """
    columns = design(measures, terms)
    count = 1 + max(int(side.max()) for side in speakers)
    fold = np.random.default_rng(seed).permutation(count) % folds
    enrol, test = fold[speakers[0]], fold[speakers[1]]
    ridge, rows = _restraint(terms, speakers), thinned(speakers)
    x, truth, shares = columns[rows], target[rows], equal_shares(_rows(speakers, rows))
    folds_seen = np.stack([enrol[rows], test[rows]])
    rising = np.isin(terms, RISING)
    start = fit(x, truth, shares=shares, prior=prior, ridge=ridge, rising=rising)
    llr = np.empty(len(target))
    for one, other in combinations_with_replacement(range(folds), 2):
        judged = ((enrol == one) & (test == other)) | ((enrol == other) & (test == one))
        if judged.any():
            unseen = ~np.isin(folds_seen, (one, other)).any(axis=0)
            fitted = fit(
                x[unseen],
                truth[unseen],
                shares=shares[unseen],
                prior=prior,
                ridge=ridge,
                start=start,
                rising=rising,
            )
            llr[judged] = fitted(columns[judged])
    return llr


def equal_shares(speakers: Sides) -> Floats:
    """A weight (n,) for each trial by which every pair of speakers weighs 1 in all."""
    _, pair, counts = np.unique(_pairs(speakers), return_inverse=True, return_counts=True)
    return 1 / counts[pair]


def thinned(speakers: Sides) -> NDArray[np.intp]:
    """Rows of at most 200 trials of each pair of speakers, drawn alike every time: as each pair
    weighs the same, more of one would only take time."""
    keys = _pairs(speakers)
    order = np.random.default_rng(0).permutation(len(keys))
    order = order[np.argsort(keys[order], kind="stable")]
    first = np.searchsorted(keys[order], keys[order], side="left")
    return np.sort(order[np.arange(len(order)) - first < MOST_OF_A_PAIR])


def false_match_points(
    nontarget_llr: Floats, shares: Floats | None = None
) -> tuple[tuple[float, float], ...]:
    """(rate, LLR threshold) pairs, rates falling, each resting on at least 30 trials' worth.

    `shares` (n,) weigh the trials; a threshold accepts no more than its rate of them.
    """
    order = np.argsort(-nontarget_llr, kind="stable")
    ordered = nontarget_llr[order]
    weight = np.ones(len(order)) if shares is None else shares[order]
    accepted = np.cumsum(weight) / weight.sum()
    return tuple(
        (rate, float(np.nextafter(ordered[np.argmax(accepted > rate)], np.inf)))
        for rate in RATES
        if rate * len(ordered) >= ERRORS_NEEDED
    )


def for_contract(
    measures: Measures,
    target: NDArray[np.bool_],
    speakers: Sides,
    *,
    terms: Sequence[str],
    fitted_on: str,
    prior: float = 0.5,
) -> Calibration:
    """Fitted on all trials; its false-match thresholds come from the cross-validated ratios, and
    are those of an average pair of speakers."""
    judged = cross_validated(measures, target, speakers, terms=terms, prior=prior)
    rows = thinned(speakers)
    fitted = fit(
        design(measures.select(rows), terms),
        target[rows],
        shares=equal_shares(_rows(speakers, rows)),
        prior=prior,
        ridge=_restraint(terms, speakers),
        rising=np.isin(terms, RISING),
    )
    weights = {name: float(value) for name, value in zip(terms, fitted.weights, strict=True)}
    points = false_match_points(judged[~target], equal_shares(speakers)[~target])
    return Calibration(fitted.bias, weights, points, fitted_on)


def cost(llr: Floats, target: NDArray[np.bool_]) -> tuple[float, float]:
    """(Cllr, minimum Cllr) in bits."""
    sweep = metrics.Sweep.of(llr[target], llr[~target])
    return metrics.cllr(sweep), metrics.min_cllr(sweep)


def cost_of_pairs(llr: Floats, target: NDArray[np.bool_], speakers: Sides) -> float:
    """Cllr in bits in which every speaker, and every pair of speakers, weighs the same."""
    shares = equal_shares(speakers)
    bits = np.logaddexp(0, np.where(target, -llr, llr)) / np.log(2)
    same, other = (np.average(bits[kind], weights=shares[kind]) for kind in (target, ~target))
    return float(same + other) / 2


def reliability(llr: Floats, target: NDArray[np.bool_], bins: int = 24) -> tuple[Floats, Floats]:
    """What is claimed and what is so: mean LLR of each bin, and the log ratio of the shares of
    targets and of non-targets in it. Bins hold equal shares of the two classes together."""
    quantiles = np.linspace(0, 1, bins + 1)[1:-1]
    edges = np.unique([np.quantile(llr[kind], quantiles) for kind in (target, ~target)])[::2]
    index = np.searchsorted(edges, llr, side="right")
    size = len(edges) + 1
    same, other = (np.bincount(index[kind], minlength=size) for kind in (target, ~target))
    held = (same >= LEAST_IN_BIN) & (other >= LEAST_IN_BIN)
    claimed = np.bincount(index, llr, minlength=size)[held] / (same + other)[held]
    return claimed, np.log(same[held] / same.sum()) - np.log(other[held] / other.sum())


def _pairs(speakers: Sides) -> NDArray[np.int64]:
    """A number (n,) for each trial's pair of speakers, whichever is on which side."""
    pairs = np.sort(np.stack(speakers).astype(np.int64), axis=0)
    keys: NDArray[np.int64] = pairs[0] * (1 + int(pairs.max())) + pairs[1]
    return keys


def _rows(speakers: Sides, rows: NDArray[np.intp]) -> Sides:
    return speakers[0][rows], speakers[1][rows]


def _restraint(terms: Sequence[str], speakers: Sides) -> Floats:
    """The ridge (terms,) of quality measures: a prior of unit deviation on each, against as many
    independent observations as there are speakers; trials are many more, but not independent."""
    count = len(np.unique(np.concatenate([np.unique(side) for side in speakers])))
    return np.array([RIDGE if term == "cosine" else 1 / count for term in terms])


@dataclass(frozen=True, slots=True)
class _Logistic:
    """The cost of a logistic regression over `x` (n, terms), convex in its parameters (terms,)."""

    x: Floats
    truth: Floats
    weight: Floats
    offset: float
    ridge: Floats

    def cost(self, beta: Floats) -> float:
        margin = (1 - 2 * self.truth) * (self.x @ beta + self.offset)
        return float(self.weight @ np.logaddexp(0, margin) + self.ridge @ beta**2 / 2)

    def minimum(self, start: Floats, bounded: NDArray[np.integer]) -> Floats:
        """The minimum at which the parameters in `bounded` are at least 0: of a convex cost, the
        best of the minima at which some of them are 0 and the others happen to be positive."""
        found = self._newton(start)
        if (found[bounded] >= 0).all():
            return found
        feasible = []
        for count in range(1, len(bounded) + 1):
            for zero in combinations(bounded.tolist(), count):
                free = np.setdiff1d(np.arange(len(start)), zero)
                beta = np.zeros(len(start))
                beta[free] = self._only(free)._newton(start[free])
                if (beta[bounded] >= 0).all():
                    feasible.append(beta)
        return min(feasible, key=self.cost)

    def _only(self, free: NDArray[np.integer]) -> _Logistic:
        return replace(self, x=self.x[:, free], ridge=self.ridge[free])

    def _newton(self, beta: Floats) -> Floats:
        """Newton steps, halved while they do not lower the cost, until the gradient vanishes."""
        x, weight = self.x, self.weight
        current = self.cost(beta)
        for _ in range(STEPS):
            odds = x @ beta + self.offset
            chance = 0.5 * (1 + np.tanh(odds / 2))
            gradient = x.T @ (weight * (chance - self.truth)) + self.ridge * beta
            hessian = (x.T * (weight * chance * (1 - chance))) @ x + np.diag(self.ridge + 1e-12)
            step = np.linalg.solve(hessian, gradient)
            while (lowered := self.cost(beta - step)) > current + TOLERANCE:
                step /= 2
            beta, gain, current = beta - step, current - lowered, lowered
            if gain < TOLERANCE:
                break
        return beta
