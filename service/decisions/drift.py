"""Drift: whether the ratios of live calls can still come from the model's calibration.

No live call says who really spoke. But a likelihood ratio that is calibrated ties the two sides
together: where a share f of impostors score l, a share f * exp(l) of genuine callers do. The
calibration's false-match table is the impostors' distribution, so it tells the genuine callers',
within bounds, and every mixture of the two. Drift is how far live calls are from the nearest one.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from service.contract import Calibration

Buckets: TypeAlias = Sequence[tuple[float, float]]
"""Upper bounds of the natural-log likelihood ratio, rising to infinity, and the count of calls at
or below each."""

_SHARES = 101


@dataclass(frozen=True, slots=True)
class Level:
    """Shares of calls at or above a ratio: of live calls, of impostors when the model was
    calibrated, and the least and the most of genuine callers that the calibration then implies."""

    llr: float
    live: float
    impostors: float
    genuine: tuple[float, float]

    def excess(self, genuine_share: float) -> float:
        """How far the live share is above or, negative, below what this mixture allows."""
        low, high = (
            genuine_share * bound + (1 - genuine_share) * self.impostors for bound in self.genuine
        )
        return max(self.live - high, 0.0) + min(self.live - low, 0.0)


@dataclass(frozen=True, slots=True)
class Drift:
    """`distance` is the largest excess of any level, at the share of genuine callers that makes it
    smallest, the highest of them: 0 where the calibration explains the live calls, towards 1 where
    nothing of it does. `upwards` when live calls have higher ratios there."""

    levels: tuple[Level, ...]
    genuine_share: float
    distance: float
    upwards: bool


def drift(calibration: Calibration, live: Buckets) -> Drift | None:
    """The drift of live calls; None where there are no calls, or the model has no table."""
    if not calibration.false_match or not live or live[-1][1] == 0:
        return None
    levels = tuple(
        Level(llr, share_above(live, llr), rate, genuine)
        for (rate, llr), genuine in zip(calibration.false_match, _genuine(calibration), strict=True)
    )
    shares = (n / (_SHARES - 1) for n in range(_SHARES))
    share = min(shares, key=lambda p: (abs(_worst(levels, p)), -p))
    excess = _worst(levels, share)
    return Drift(levels, share, abs(excess), excess > 0)


def share_above(live: Buckets, llr: float) -> float:
    """The share of calls at or above a ratio, linear within a bucket."""
    below = 0.0
    for (lower, at_lower), (upper, at_upper) in itertools.pairwise(((-math.inf, 0.0), *live)):
        if upper >= llr:
            inside = upper - lower
            part = (llr - lower) / inside if math.isfinite(inside) else 1.0
            below = at_lower + part * (at_upper - at_lower)
            break
    return 1 - below / live[-1][1]


def median(live: Buckets) -> float:
    """The ratio that half of the calls reach, linear within a bucket; NaN without calls."""
    half = live[-1][1] / 2 if live else 0.0
    for (lower, at_lower), (upper, at_upper) in itertools.pairwise(((-math.inf, 0.0), *live)):
        if at_upper >= half > 0:
            if not math.isfinite(upper - lower):
                return upper if math.isfinite(upper) else lower
            return lower + (half - at_lower) / (at_upper - at_lower) * (upper - lower)
    return math.nan


def _worst(levels: Iterable[Level], genuine_share: float) -> float:
    return max((level.excess(genuine_share) for level in levels), key=abs)


def _genuine(calibration: Calibration) -> Iterable[tuple[float, float]]:
    """For each point of the table, the least and the most of genuine callers at or above it.

    Those below the first point and those above the last are known in sum, and the former at most.
    """
    points = calibration.false_match
    inside = [_genuine_between(*pair) for pair in itertools.pairwise(points)]
    outside = max(1 - sum(inside), 0.0)
    (first_rate, first_llr), (last_rate, last_llr) = points[0], points[-1]
    below = min(outside, (1 - first_rate) * math.exp(first_llr))
    least_above = max(outside - below, min(outside, last_rate * math.exp(last_llr)))
    for at in range(len(points)):
        known = sum(inside[at:])
        yield min(known + least_above, 1.0), min(known + outside, 1.0)


def _genuine_between(start: tuple[float, float], end: tuple[float, float]) -> float:
    """Genuine callers between two points, the integral of exp(l) over the impostors there, whose
    logarithmic rate is linear as it is for `decision.false_match_threshold`."""
    (rate, lower), (less, upper) = start, end
    if upper <= lower:
        return (rate - less) * math.exp(lower)
    slope = math.log(rate / less) / (upper - lower)
    growth = 1 - slope
    span = math.expm1(growth * (upper - lower)) / growth if growth else upper - lower
    return rate * slope * math.exp(lower) * span
