"""Error rates at a threshold fixed beforehand, of the average pair of speakers.

Every pair of speakers weighs the same, however many clips there are of the two. This is what a
promised false-match rate is about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import bootstrap
from evaluation.metrics.bootstrap import Interval
from evaluation.metrics.sides import Floats, Sides, weigh_pairs_equally


@dataclass(frozen=True, slots=True)
class Rate:
    """An error rate and, when bootstrapped, its 95% interval."""

    value: float
    interval: Interval | None


def measure_error_rates(
    scores: Floats,
    target: NDArray[np.bool_],
    sides: Sides,
    threshold: float,
    *,
    replicates: int = 200,
    seed: int = 0,
) -> tuple[Rate, Rate]:
    """(FMR, FNMR) of `scores` (n,) at `threshold`; `replicates` 0 leaves out the intervals.

    An interval is also None when no draw of the speakers has both kinds of trial.
    """
    weights = weigh_pairs_equally(sides.speakers)
    accepted = scores >= threshold
    fmr = float(np.average(accepted[~target], weights=weights[~target]))
    fnmr = float(np.average(~accepted[target], weights=weights[target]))
    if not replicates:
        return Rate(fmr, None), Rate(fnmr, None)
    sides = sides.compact()
    draws = bootstrap.draw(sides, replicates, np.random.default_rng(seed))
    curves = bootstrap.resample(
        scores, target, sides, draws, grid=np.array([threshold]), trial_weights=weights
    )
    return (
        Rate(fmr, bootstrap.percentile_interval(curves.fmr[1], fmr)),
        Rate(fnmr, bootstrap.percentile_interval(curves.fnmr[1], fnmr)),
    )


def measure_false_match_rate(
    accepted: NDArray[np.bool_], sides: Sides, *, replicates: int = 200, seed: int = 0
) -> Rate:
    """The FMR of non-target trials alone, `accepted` (n,), with its interval."""
    weights = weigh_pairs_equally(sides.speakers)
    fmr = float(np.average(accepted, weights=weights))
    sides = sides.compact()
    draws = bootstrap.draw(sides, replicates, np.random.default_rng(seed))
    nobody = np.zeros(len(accepted), bool)
    _, resampled = bootstrap.resample_mean(
        accepted.astype(float), nobody, sides, draws, trial_weights=weights
    )
    return Rate(fmr, bootstrap.percentile_interval(resampled[~np.isnan(resampled)], fmr))
