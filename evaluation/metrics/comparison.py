"""Whether system B is better than system A on the same trials: a paired bootstrap.

Both systems are measured under the same draws of speakers and clips, so that what the draws do to
both cancels out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.errors import EvaluationError
from evaluation.metrics import Sweep, bootstrap
from evaluation.metrics.bootstrap import Curves, Interval
from evaluation.metrics.sides import Sides, weigh_pairs_equally

Floats = NDArray[np.float64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of system A (`first`) and B (`second`); lower is better.

    `interval` is the 95% interval of B less A, and `second_lower` the share of draws in which B
    is lower.
    """

    first: float
    second: float
    interval: Interval
    second_lower: float

    @property
    def verdict(self) -> str:
        """What the interval shows, in words."""
        if self.interval.high < 0:
            return "B is better"
        return "A is better" if self.interval.low > 0 else "no difference shown"


def compare(
    first: Floats,
    second: Floats,
    target: Truth,
    sides: Sides,
    *,
    replicates: int = 200,
    seed: int = 0,
) -> Mapping[str, Difference]:
    """Compare EER and minDCF, by name, of two systems' scores (n,) of the same trials.

    Raises EvaluationError when no draw of the speakers has both kinds of trial.
    """
    sides = sides.compact()
    draws = bootstrap.draw(sides, replicates, np.random.default_rng(seed))
    sweeps = [Sweep.of(scores[target], scores[~target]) for scores in (first, second)]
    curves = [bootstrap.resample(scores, target, sides, draws) for scores in (first, second)]
    figures: dict[str, Callable[[Sweep], float]] = {"EER": metrics.eer}
    replicates_of: dict[str, Callable[[Curves], Floats]] = {"EER": bootstrap.resample_eer}
    for prior in (0.01, 0.05):
        figures[f"minDCF {prior:g}"] = partial(metrics.min_dcf, prior=prior)
        replicates_of[f"minDCF {prior:g}"] = partial(bootstrap.resample_min_dcf, prior=prior)
    return {
        name: _subtract(
            (figure(sweeps[0]), figure(sweeps[1])),
            (replicates_of[name](curves[0]), replicates_of[name](curves[1])),
        )
        for name, figure in figures.items()
    }


def compare_cllr(
    first: Floats,
    second: Floats,
    target: Truth,
    sides: Sides,
    *,
    replicates: int = 200,
    seed: int = 0,
) -> Difference:
    """Compare the Cllr in bits of two systems' LLRs (n,); every pair of speakers weighs the same.

    Raises EvaluationError when no draw of the speakers has both kinds of trial.
    """
    sides = sides.compact()
    draws = bootstrap.draw(sides, replicates, np.random.default_rng(seed))
    weights = weigh_pairs_equally(sides.speakers)
    values, resampled = [], []
    for llr in (first, second):
        bits = np.logaddexp(0, np.where(target, -llr, llr)) / np.log(2)
        kinds = [np.average(bits[kind], weights=weights[kind]) for kind in (target, ~target)]
        values.append(float(np.mean(kinds)))
        means = bootstrap.resample_mean(bits, target, sides, draws, trial_weights=weights)
        resampled.append(np.mean(means, axis=0))
    complete = ~np.isnan(resampled[0])
    return _subtract((values[0], values[1]), (resampled[0][complete], resampled[1][complete]))


def _subtract(values: tuple[float, float], replicates: tuple[Floats, Floats]) -> Difference:
    difference = replicates[1] - replicates[0]
    interval = bootstrap.percentile_interval(difference, values[1] - values[0])
    if interval is None:
        raise EvaluationError(
            "too few speakers to compare: no draw of them has both kinds of trial"
        )
    second_lower = np.mean(difference < 0) + np.mean(difference == 0) / 2
    return Difference(*values, interval, float(second_lower))
