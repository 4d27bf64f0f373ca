"""Does a threshold chosen on some speakers hold on others? The check of a promised false-match
rate: speakers are halved, each half is calibrated and judged by the threshold of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.metrics import bootstrap
from evaluation.metrics.bootstrap import Interval, Sides
from evaluation.scoring import calibration
from evaluation.scoring.measures import Measures, design


@dataclass(frozen=True, slots=True)
class Check:
    """A promised false-match rate and the one that came true for the average pair of speakers,
    with its 95% interval."""

    promised: float
    realised: float
    interval: Interval
    nontargets: int

    @property
    def holds(self) -> bool:
        """Whether the promise lies in the interval of what came true."""
        return self.interval.low <= self.promised <= self.interval.high


def check(
    measures: Measures,
    target: NDArray[np.bool_],
    sides: Sides,
    *,
    terms: Sequence[str],
    strata: NDArray[np.integer],
    rate: float = 0.01,
    replicates: int = 200,
    seed: int = 0,
) -> tuple[Check, ...]:
    """Both directions of a seeded halving of the speakers, each of the `strata` (speakers,) in
    two; empty where a half has too few trials to calibrate or to promise `rate`."""
    half = _halved(strata, seed)
    enrol, test = half[sides.speaker[sides.enrol]], half[sides.speaker[sides.test]]
    checks = []
    for own in (False, True):
        seen, unseen = (enrol == own) & (test == own), (enrol != own) & (test != own)
        speakers = (sides.speaker[sides.enrol[seen]], sides.speaker[sides.test[seen]])
        try:
            fitted = calibration.for_contract(
                measures.select(seen), target[seen], speakers, terms=terms, fitted_on="half"
            )
        except EvaluationError:
            return ()
        threshold = dict(fitted.false_match).get(rate)
        if threshold is None or target[unseen].all() or not target[unseen].any():
            return ()
        weights = np.array([fitted.weights[term] for term in terms])
        llr = design(measures.select(unseen), terms) @ weights + fitted.bias
        checks.append(
            _judged(llr, target[unseen], sides.select(unseen), rate, threshold, replicates, seed)
        )
    return tuple(check for check in checks if check is not None)


def _judged(
    llr: NDArray[np.float64],
    target: NDArray[np.bool_],
    sides: Sides,
    rate: float,
    threshold: float,
    replicates: int,
    seed: int,
) -> Check | None:
    sides = sides.compact()
    draws = sides.draw(replicates, np.random.default_rng(seed))
    shares = calibration.equal_shares((sides.speaker[sides.enrol], sides.speaker[sides.test]))
    grid = np.array([threshold])
    curves = bootstrap.resample(llr, target, sides, draws, grid=grid, shares=shares)
    realised = float(np.average(llr[~target] >= threshold, weights=shares[~target]))
    found = bootstrap.interval(curves.fmr[1])
    return None if found is None else Check(rate, realised, found, int((~target).sum()))


def _halved(strata: NDArray[np.integer], seed: int) -> NDArray[np.bool_]:
    """Every other speaker of each stratum, in a seeded order."""
    order = np.random.default_rng(seed).permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    half = np.zeros(len(strata), bool)
    half[order[::2]] = True
    return half
