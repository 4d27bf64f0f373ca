"""The figures of one set of trials, with intervals: one row of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.metrics import Sweep, bootstrap
from evaluation.metrics.bootstrap import Curves, Interval
from evaluation.metrics.sides import Sides

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
    """The cost of log-likelihood ratios: Cllr in bits, and DCF at the Bayes threshold by prior."""

    cllr: float
    min_cllr: float
    actual_dcf: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """A row of the report: DCF is by prior, at unit costs, and FNMR by false-match rate."""

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
    """Measure `scores` (n,), and `llr` (n,) if calibrated; `replicates` 0 leaves out intervals."""
    sides = sides.compact()
    sweep = Sweep.of(scores[target], scores[~target])
    curves = None
    if replicates:
        draws = bootstrap.draw(sides, replicates, np.random.default_rng(seed))
        curves = bootstrap.resample(scores, target, sides, draws)
    return Figures(
        targets=len(sweep.target),
        nontargets=len(sweep.nontarget),
        speakers=int(sides.speaker.max()) + 1,
        eer=_add_interval(metrics.eer(sweep), curves, bootstrap.resample_eer),
        eer_interpolated=metrics.eer_interpolated(sweep),
        min_dcf={
            prior: _add_interval(
                metrics.min_dcf(sweep, prior),
                curves,
                partial(bootstrap.resample_min_dcf, prior=prior),
            )
            for prior in PRIORS
        },
        fnmr_at_fmr={rate: metrics.fnmr_at_fmr(sweep, rate) for rate in MATCH_RATES},
        calibrated=None if llr is None else _measure_llr(llr, target),
    )


def _add_interval(
    value: float, curves: Curves | None, replicates_of: Callable[[Curves], Floats]
) -> Figure:
    if curves is None:
        return Figure(value)
    return Figure(value, bootstrap.percentile_interval(replicates_of(curves), value))


def _measure_llr(llr: Floats, target: Truth) -> Calibrated:
    sweep = Sweep.of(llr[target], llr[~target])
    return Calibrated(
        metrics.cllr(sweep),
        metrics.min_cllr(sweep),
        {prior: metrics.actual_dcf(sweep, prior) for prior in PRIORS},
    )
