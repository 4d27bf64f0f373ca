"""Whether one threshold treats all groups alike (ISO/IEC 19795-10, demographic differentials)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import bootstrap
from evaluation.metrics.bootstrap import Interval, Sides

Floats = NDArray[np.float64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Row:
    """The error rates of one group at the common threshold, with 95% intervals."""

    targets: int
    nontargets: int
    fmr: float
    fmr_interval: Interval | None
    fnmr: float
    fnmr_interval: Interval | None


def table(
    scores: Floats,
    target: Truth,
    sides: Sides,
    groups: Mapping[str, Truth],
    threshold: float,
    *,
    replicates: int = 200,
    seed: int = 0,
) -> dict[str, Row]:
    """Each group's rates at `threshold`; groups without targets or non-targets are left out."""
    return {
        name: _row(scores[keep], target[keep], sides.select(keep), threshold, replicates, seed)
        for name, keep in groups.items()
        if target[keep].any() and not target[keep].all()
    }


def differential(rows: Mapping[str, Row]) -> tuple[float, float]:
    """Largest over smallest (FMR, FNMR) among the groups; infinite where the smallest is 0."""
    return _ratio([row.fmr for row in rows.values()]), _ratio([row.fnmr for row in rows.values()])


def _row(
    scores: Floats, target: Truth, sides: Sides, threshold: float, replicates: int, seed: int
) -> Row:
    accepted = scores >= threshold
    fmr_interval = fnmr_interval = None
    if replicates:
        sides = sides.compact()
        draws = sides.draw(replicates, np.random.default_rng(seed))
        curves = bootstrap.resample(scores, target, sides, draws, grid=np.array([threshold]))
        fmr_interval = bootstrap.interval(curves.fmr[1])
        fnmr_interval = bootstrap.interval(curves.fnmr[1])
    return Row(
        int(target.sum()),
        int((~target).sum()),
        float(accepted[~target].mean()),
        fmr_interval,
        float(1 - accepted[target].mean()),
        fnmr_interval,
    )


def _ratio(rates: list[float]) -> float:
    return max(rates) / min(rates) if min(rates) > 0 else float("inf")
