"""Whether one threshold treats all groups of people alike.

These are the demographic differentials of ISO/IEC 19795-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import bootstrap
from evaluation.metrics.bootstrap import Interval
from evaluation.metrics.sides import Sides

Floats = NDArray[np.float64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FairnessRow:
    """A row of the report: one group's error rates at the common threshold, with 95% intervals."""

    targets: int
    nontargets: int
    fmr: float
    fmr_interval: Interval | None
    fnmr: float
    fnmr_interval: Interval | None


def measure_groups(
    scores: Floats,
    target: Truth,
    sides: Sides,
    groups: Mapping[str, Truth],
    threshold: float,
    *,
    replicates: int = 200,
    seed: int = 0,
) -> dict[str, FairnessRow]:
    """The rates at `threshold` of each group of trials (n,) that has targets and non-targets."""
    return {
        name: _measure_row(
            scores[keep], target[keep], sides.select(keep), threshold, replicates, seed
        )
        for name, keep in groups.items()
        if target[keep].any() and not target[keep].all()
    }


def measure_differentials(rows: Mapping[str, FairnessRow]) -> tuple[float, float]:
    """Largest over smallest (FMR, FNMR) among the groups; infinite where the smallest is 0."""
    return _divide_extremes([row.fmr for row in rows.values()]), _divide_extremes(
        [row.fnmr for row in rows.values()]
    )


def _measure_row(
    scores: Floats, target: Truth, sides: Sides, threshold: float, replicates: int, seed: int
) -> FairnessRow:
    accepted = scores >= threshold
    fmr, fnmr = float(accepted[~target].mean()), float(1 - accepted[target].mean())
    fmr_interval = fnmr_interval = None
    if replicates:
        sides = sides.compact()
        draws = bootstrap.draw(sides, replicates, np.random.default_rng(seed))
        curves = bootstrap.resample(scores, target, sides, draws, grid=np.array([threshold]))
        fmr_interval = bootstrap.percentile_interval(curves.fmr[1], fmr)
        fnmr_interval = bootstrap.percentile_interval(curves.fnmr[1], fnmr)
    return FairnessRow(
        int(target.sum()), int((~target).sum()), fmr, fmr_interval, fnmr, fnmr_interval
    )


def _divide_extremes(rates: list[float]) -> float:
    return max(rates) / min(rates) if min(rates) > 0 else float("inf")
