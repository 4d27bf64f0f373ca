"""Whether a threshold chosen on some speakers holds on others.

The check of a promised false-match rate: speakers are halved, each half is calibrated, and each
half is judged at the threshold of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.metrics.bootstrap import Interval
from evaluation.metrics.error_rates import measure_error_rates
from evaluation.metrics.sides import Sides
from evaluation.scoring import calibration
from evaluation.scoring.measures import Measures


@dataclass(frozen=True, slots=True)
class HeldOutRow:
    """A row of the report: the promised false-match rate, and the measured one on other speakers.

    `realised` is that of the average pair of speakers, with its 95% interval.
    """

    promised: float
    realised: float
    interval: Interval
    nontargets: int

    @property
    def holds(self) -> bool:
        """Whether the promised rate lies in the interval of the measured one."""
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
) -> tuple[HeldOutRow, ...]:
    """Check both directions of a seeded halving of the speakers.

    Each of the `strata` (speakers,) is halved by itself. Empty when a half has too few trials to
    calibrate or to promise `rate`.
    """
    half = _halve(strata, seed)
    enrol, test = (half[speakers] for speakers in sides.speakers)
    rows = []
    for own in (False, True):
        seen, unseen = (enrol == own) & (test == own), (enrol != own) & (test != own)
        try:
            fitted = calibration.fit_for_contract(
                measures.select(seen),
                target[seen],
                sides.select(seen).speakers,
                terms=terms,
                fitted_on="half",
            )
        except EvaluationError:
            return ()
        threshold = dict(fitted.false_match).get(rate)
        if threshold is None or target[unseen].all() or not target[unseen].any():
            return ()
        llr = calibration.apply_calibration(fitted, measures.select(unseen))
        false_match, _ = measure_error_rates(
            llr,
            target[unseen],
            sides.select(unseen),
            threshold,
            replicates=replicates,
            seed=seed,
        )
        if false_match.interval is not None:
            nontargets = int((~target[unseen]).sum())
            rows.append(HeldOutRow(rate, false_match.value, false_match.interval, nontargets))
    return tuple(rows)


def _halve(strata: NDArray[np.integer], seed: int) -> NDArray[np.bool_]:
    """Mark every other speaker of each stratum, in a seeded order, (speakers,)."""
    order = np.random.default_rng(seed).permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    half = np.zeros(len(strata), bool)
    half[order[::2]] = True
    return half
