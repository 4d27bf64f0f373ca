"""The figures of one set of trials, with intervals: what a row of the report says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.metrics import Sweep, bootstrap
from evaluation.metrics.bootstrap import Curves, Interval, Sides

Floats = NDArray[np.float64]
Truth = NDArray[np.bool_]

PRIORS = (0.01, 0.05)
MATCH_RATES = (0.01, 0.001)


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value and, when bootstrapped, its 95% interval."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What the log-likelihood ratios cost: bits, and DCF at the Bayes threshold by prior."""

    cllr: float
    min_cllr: float
    actual_dcf: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of one set of trials; DCF by prior (unit costs), FNMR by false-match rate."""

    targets: int
    nontargets: int
    speakers: int
    eer: Figure
    eer_interpolated: float
    min_dcf: Mapping[float, Figure]
    fnmr_at_fmr: Mapping[float, float]
    calibrated: Calibrated | None


def measure(
    scores: Floats,
    target: Truth,
    sides: Sides,
    *,
    llr: Floats | None = None,
    replicates: int = 200,
    seed: int = 0,
) -> Figures:
    """Figures of `scores` (n,); `replicates` 0 leaves out the intervals."""
    sides = sides.compact()
    sweep = Sweep.of(scores[target], scores[~target])
    curves = None
    if replicates:
        draws = sides.draw(replicates, np.random.default_rng(seed))
        curves = bootstrap.resample(scores, target, sides, draws)
    return Figures(
        targets=len(sweep.target),
        nontargets=len(sweep.nontarget),
        speakers=int(sides.speaker.max()) + 1,
        eer=_figure(metrics.eer(sweep), curves, bootstrap.eers),
        eer_interpolated=metrics.eer_interpolated(sweep),
        min_dcf={
            prior: _figure(
                metrics.min_dcf(sweep, prior), curves, partial(bootstrap.dcfs, prior=prior)
            )
            for prior in PRIORS
        },
        fnmr_at_fmr={rate: metrics.fnmr_at_fmr(sweep, rate) for rate in MATCH_RATES},
        calibrated=None if llr is None else _calibrated(llr, target),
    )


def _figure(value: float, curves: Curves | None, drawn: Callable[[Curves], Floats]) -> Figure:
    return Figure(value, None if curves is None else bootstrap.interval(drawn(curves)))


def _calibrated(llr: Floats, target: Truth) -> Calibrated:
    sweep = Sweep.of(llr[target], llr[~target])
    return Calibrated(
        metrics.cllr(sweep),
        metrics.min_cllr(sweep),
        {prior: metrics.actual_dcf(sweep, prior) for prior in PRIORS},
    )
