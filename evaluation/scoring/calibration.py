"""Calibration: from a score and its quality measures to a natural-log likelihood ratio (LLR).

Logistic regression with Brümmer's prior-weighted objective (Brümmer & du Preez 2006): targets and
non-targets weigh what the prior says and not how many there are, so that
`bias + weights . terms` is an LLR. Every pair of speakers weighs the same, however many clips
there are of the two. A calibration is judged by cross-validation over speakers.

A caller chooses how long to speak and in how much noise. Poorer test audio may therefore lower an
LLR but never raise it: the weights of `RISING` are not negative. Otherwise an impostor could be
accepted for speaking less, or through noise, in the way the enrolled speaker often does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.errors import EvaluationError
from evaluation.metrics.sides import Speakers, number_pairs, weigh_pairs_equally
from evaluation.scoring.measures import Measures, make_design_matrix
from service.contract import Calibration

Floats = NDArray[np.float64]

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
        """The LLR (n,) of `columns` (n, terms)."""
        llr: Floats = columns @ self.weights + self.bias
        return llr


def fit(
    columns: Floats,
    target: NDArray[np.bool_],
    *,
    trial_weights: Floats | None = None,
    prior: float = 0.5,
    ridge: Floats | float = RIDGE,
    start: Affine | None = None,
    rising: NDArray[np.bool_] | None = None,
) -> Affine:
    """Minimize the prior-weighted logistic cost over `columns` (n, terms) by Newton's method.

    `trial_weights` (n,) weigh the trials within their class. `prior` is the effective target prior
    that the fit cares most about. `ridge`, one for each term or for all, shrinks the weights of
    the standardized columns; the slight default keeps the weights of separable data finite. The
    weights marked in `rising` (terms,) are at least 0. Raises EvaluationError when a class is
    missing.
    """
    if target.all() or not target.any():
        raise EvaluationError("a calibration needs target and non-target trials")
    center, scale = columns.mean(axis=0), columns.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    x = np.column_stack([np.ones(len(columns)), (columns - center) / scale])
    trial_weights = np.ones(len(target)) if trial_weights is None else trial_weights
    in_class = np.where(
        target, prior / trial_weights[target].sum(), (1 - prior) / trial_weights[~target].sum()
    )
    beta = np.zeros(x.shape[1])
    if start is not None:
        beta = np.append(start.bias + center @ start.weights, start.weights * scale)
    penalty = np.append(0.0, np.broadcast_to(ridge, len(scale)))
    weight = trial_weights * in_class
    problem = _Logistic(x, target.astype(float), weight, np.log(prior / (1 - prior)), penalty)
    bounded = np.flatnonzero(rising) + 1 if rising is not None else np.array([], int)
    beta = problem.minimize(beta, bounded)
    weights = beta[1:] / scale
    return Affine(float(beta[0] - center @ weights), weights)


def cross_validate(
    measures: Measures,
    target: NDArray[np.bool_],
    speakers: Speakers,
    *,
    terms: Sequence[str],
    folds: int = FOLDS,
    prior: float = 0.5,
    seed: int = 0,
) -> Floats:
    """The LLR (n,) of each trial by a calibration that saw neither of its two speakers.

    `speakers` are the enrolled and the test speaker of each trial, (n,) each, as small integers.
    """
    columns = make_design_matrix(measures, terms)
    ridge, rows = _choose_ridge(terms, speakers), thin_pairs(speakers)
    x, truth, trial_weights = (
        columns[rows],
        target[rows],
        weigh_pairs_equally(_select_speakers(speakers, rows)),
    )
    rising = np.isin(terms, RISING)
    start = fit(x, truth, trial_weights=trial_weights, prior=prior, ridge=ridge, rising=rising)
    llr = np.empty(len(target))
    for split in split_folds(speakers, folds=folds, seed=seed):
        unseen = split.unseen[rows]
        fitted = fit(
            x[unseen],
            truth[unseen],
            trial_weights=trial_weights[unseen],
            prior=prior,
            ridge=ridge,
            start=start,
            rising=rising,
        )
        llr[split.own] = fitted(columns[split.own])
    return llr


def thin_pairs(speakers: Speakers) -> NDArray[np.intp]:
    """Rows of at most 200 trials of each pair of speakers, the same in every run.

    Since every pair weighs the same, more trials of one pair would only take time.
    """
    keys = number_pairs(speakers)
    order = np.random.default_rng(0).permutation(len(keys))
    order = order[np.argsort(keys[order], kind="stable")]
    first = np.searchsorted(keys[order], keys[order], side="left")
    return np.sort(order[np.arange(len(order)) - first < MOST_OF_A_PAIR])


def find_false_match_points(
    nontarget_llr: Floats,
    trial_weights: Floats | None = None,
    strata: NDArray[np.integer] | None = None,
) -> tuple[tuple[float, float], ...]:
    """(rate, LLR threshold) pairs by falling rate, each resting on at least 30 expected errors.

    A threshold accepts no more than its rate of the trials, weighted by `trial_weights` (n,), and
    of each of the `strata` (n,) that is large enough to tell.
    """
    weight = np.ones(len(nontarget_llr)) if trial_weights is None else trial_weights
    strata = np.zeros(len(nontarget_llr), int) if strata is None else strata
    largest = int(np.bincount(strata).max())
    rates = [rate for rate in RATES if rate * largest >= ERRORS_NEEDED]
    found = [find_threshold(nontarget_llr, weight, strata, rate) for rate in rates]
    return tuple(zip(rates, np.maximum.accumulate(found).tolist(), strict=True))


def find_threshold(
    nontarget_llr: Floats, trial_weights: Floats, strata: NDArray[np.integer], rate: float
) -> float:
    """The lowest LLR that accepts no more than `rate` of each stratum of at least 30 / `rate`
    trials; of all trials together if there is none."""
    sizes = np.bincount(strata)
    large = np.flatnonzero(rate * sizes >= ERRORS_NEEDED)
    groups = [strata == one for one in large] or [np.ones(len(strata), bool)]
    return max(_find_quantile(nontarget_llr[own], trial_weights[own], rate) for own in groups)


def _find_quantile(nontarget_llr: Floats, trial_weights: Floats, rate: float) -> float:
    order = np.argsort(-nontarget_llr, kind="stable")
    accepted = np.cumsum(trial_weights[order]) / trial_weights.sum()
    return float(np.nextafter(nontarget_llr[order[np.argmax(accepted > rate)]], np.inf))


def cross_validate_thresholds(
    llr: Floats,
    target: NDArray[np.bool_],
    speakers: Speakers,
    strata: NDArray[np.integer],
    rate: float,
    *,
    seed: int = 0,
) -> Floats:
    """The threshold (n,) for each trial that `find_threshold` finds on other speakers.

    Folds are those of `cross_validate` with the same `seed`.
    """
    weights = weigh_pairs_equally(speakers)
    thresholds = np.empty(len(llr))
    for split in split_folds(speakers, seed=seed):
        others = split.unseen & ~target
        thresholds[split.own] = find_threshold(llr[others], weights[others], strata[others], rate)
    return thresholds


@dataclass(frozen=True, slots=True)
class Split:
    """The trials of one pair of `folds`, `own` (n,), and those that share no fold with them."""

    folds: tuple[int, int]
    own: NDArray[np.bool_]
    unseen: NDArray[np.bool_]


def assign_folds(speakers: int, *, folds: int = FOLDS, seed: int = 0) -> NDArray[np.intp]:
    """The fold of each speaker, (speakers,)."""
    return np.random.default_rng(seed).permutation(speakers) % folds


def split_folds(speakers: Speakers, *, folds: int = FOLDS, seed: int = 0) -> Iterator[Split]:
    """Split the trials by the folds of their two speakers; every trial is in one split's `own`."""
    fold = assign_folds(1 + max(int(side.max()) for side in speakers), folds=folds, seed=seed)
    enrol, test = fold[speakers[0]], fold[speakers[1]]
    for pair in combinations_with_replacement(range(folds), 2):
        own = (np.minimum(enrol, test) == pair[0]) & (np.maximum(enrol, test) == pair[1])
        if own.any():
            yield Split(pair, own, ~(np.isin(enrol, pair) | np.isin(test, pair)))


def fit_for_contract(
    measures: Measures,
    target: NDArray[np.bool_],
    speakers: Speakers,
    *,
    terms: Sequence[str],
    fitted_on: str,
    prior: float = 0.5,
    strata: NDArray[np.integer] | None = None,
) -> Calibration:
    """Fit on all trials, as a model's contract carries it.

    The false-match thresholds come from the cross-validated LLRs, and are those of the average
    pair of speakers, in each of the `strata` (n,).
    """
    llr = cross_validate(measures, target, speakers, terms=terms, prior=prior)
    rows = thin_pairs(speakers)
    fitted = fit(
        make_design_matrix(measures.select(rows), terms),
        target[rows],
        trial_weights=weigh_pairs_equally(_select_speakers(speakers, rows)),
        prior=prior,
        ridge=_choose_ridge(terms, speakers),
        rising=np.isin(terms, RISING),
    )
    weights = {name: float(value) for name, value in zip(terms, fitted.weights, strict=True)}
    others = None if strata is None else strata[~target]
    points = find_false_match_points(llr[~target], weigh_pairs_equally(speakers)[~target], others)
    return Calibration(fitted.bias, weights, points, fitted_on)


def apply_calibration(calibration: Calibration, measures: Measures) -> Floats:
    """The LLR (n,) that the service would return for each trial."""
    terms = tuple(calibration.weights)
    weights = np.array([calibration.weights[term] for term in terms])
    llr: Floats = make_design_matrix(measures, terms) @ weights + calibration.bias
    return llr


def measure_cllr(llr: Floats, target: NDArray[np.bool_]) -> tuple[float, float]:
    """(Cllr, minimum Cllr) in bits."""
    sweep = metrics.Sweep.of(llr[target], llr[~target])
    return metrics.cllr(sweep), metrics.min_cllr(sweep)


def measure_pair_weighted_cllr(llr: Floats, target: NDArray[np.bool_], speakers: Speakers) -> float:
    """Cllr in bits in which every pair of speakers weighs the same."""
    trial_weights = weigh_pairs_equally(speakers)
    bits = np.logaddexp(0, np.where(target, -llr, llr)) / np.log(2)
    same, other = (
        np.average(bits[kind], weights=trial_weights[kind]) for kind in (target, ~target)
    )
    return float(same + other) / 2


def measure_reliability(
    llr: Floats, target: NDArray[np.bool_], bins: int = 24
) -> tuple[Floats, Floats]:
    """Claimed and observed LLR of each bin, (bins,) each.

    Claimed is the mean LLR in the bin; observed is the log ratio of the share of targets to the
    share of non-targets in it. Bins hold equal shares of the two classes together.
    """
    quantiles = np.linspace(0, 1, bins + 1)[1:-1]
    edges = np.unique([np.quantile(llr[kind], quantiles) for kind in (target, ~target)])[::2]
    index = np.searchsorted(edges, llr, side="right")
    size = len(edges) + 1
    same, other = (np.bincount(index[kind], minlength=size) for kind in (target, ~target))
    full = (same >= LEAST_IN_BIN) & (other >= LEAST_IN_BIN)
    claimed = np.bincount(index, llr, minlength=size)[full] / (same + other)[full]
    return claimed, np.log(same[full] / same.sum()) - np.log(other[full] / other.sum())


def _select_speakers(speakers: Speakers, rows: NDArray[np.intp]) -> Speakers:
    return speakers[0][rows], speakers[1][rows]


def _choose_ridge(terms: Sequence[str], speakers: Speakers) -> Floats:
    """The ridge (terms,) of each term: quality measures get a prior of unit deviation.

    It stands against as many independent observations as there are speakers: trials are far more,
    but not independent.
    """
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

    def minimize(self, start: Floats, bounded: NDArray[np.integer]) -> Floats:
        """The minimum at which the parameters in `bounded` are at least 0.

        The cost is convex, so it is the best of the minima at which some of the bounded parameters
        are fixed at 0 and the others turn out positive.
        """
        unbounded = self._newton(start)
        if (unbounded[bounded] >= 0).all():
            return unbounded
        feasible = []
        for count in range(1, len(bounded) + 1):
            for zero in combinations(bounded.tolist(), count):
                free = np.setdiff1d(np.arange(len(start)), zero)
                beta = np.zeros(len(start))
                beta[free] = self._keep(free)._newton(start[free])
                if (beta[bounded] >= 0).all():
                    feasible.append(beta)
        return min(feasible, key=self.cost)

    def _keep(self, free: NDArray[np.integer]) -> _Logistic:
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
