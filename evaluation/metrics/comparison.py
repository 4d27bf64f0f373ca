"""Is B better than A on these trials? A paired bootstrap: both systems under the same draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.errors import EvaluationError
from evaluation.metrics import Sweep, bootstrap
from evaluation.metrics.bootstrap import Curves, Interval, Sides

Floats = NDArray[np.float64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of both systems (lower is better), B less A with its 95% interval, and the share
    of draws in which B is lower."""

    first: float
    second: float
    interval: Interval
    second_lower: float

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.interval.high < 0:
            return "B is better"
        return "A is better" if self.interval.low > 0 else "no difference shown"


def paired(
    first: Floats,
    second: Floats,
    target: Truth,
    sides: Sides,
    *,
    replicates: int = 200,
    seed: int = 0,
) -> Mapping[str, Difference]:
    """EER and minDCF of two systems' scores (n,) of the same trials."""
    sides = sides.compact()
    draws = sides.draw(replicates, np.random.default_rng(seed))
    sweeps = [Sweep.of(scores[target], scores[~target]) for scores in (first, second)]
    curves = [bootstrap.resample(scores, target, sides, draws) for scores in (first, second)]
    exact: dict[str, Callable[[Sweep], float]] = {"EER": metrics.eer}
    drawn: dict[str, Callable[[Curves], Floats]] = {"EER": bootstrap.eers}
    for prior in (0.01, 0.05):
        exact[f"minDCF {prior:g}"] = partial(metrics.min_dcf, prior=prior)
        drawn[f"minDCF {prior:g}"] = partial(bootstrap.dcfs, prior=prior)
    return {
        name: _difference(
            (figure(sweeps[0]), figure(sweeps[1])),
            (drawn[name](curves[0]), drawn[name](curves[1])),
        )
        for name, figure in exact.items()
    }


def _difference(values: tuple[float, float], drawn: tuple[Floats, Floats]) -> Difference:
    less = drawn[1] - drawn[0]
    found = bootstrap.interval(less)
    if found is None:
        raise EvaluationError(
            "too few speakers to compare: no draw of them has both kinds of trial"
        )
    return Difference(*values, found, float(np.mean(less < 0) + np.mean(less == 0) / 2))
