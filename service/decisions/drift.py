"""Drift: how far the llrs of live calls are from what the model's calibration allows.

No live call says who really spoke. But a calibrated likelihood ratio ties both distributions
together: if a share f of impostors has the llr l, a share f * exp(l) of genuine callers has it. The
calibration's false-match table is the distribution of impostors, so it gives that of genuine
callers, within bounds, and every mixture of both. Drift is the distance of the live calls from the
nearest mixture.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from service.contract import Calibration

Buckets: TypeAlias = Sequence[tuple[float, float]]
"""Upper bounds of the llr, rising to infinity, each with the count of calls at or below it."""

_SHARES = 101


@dataclass(frozen=True, slots=True)
class Level:
    """Shares of calls at or above an llr: of live calls, of impostors when the model was
    calibrated, and the lowest and highest share of genuine callers that the calibration implies."""

    llr: float
    live: float
    impostors: float
    genuine: tuple[float, float]

    def excess(self, genuine_share: float) -> float:
        """Return how far the live share is above or, if negative, below what a mixture with this
        share of genuine callers allows."""
        low, high = (
            genuine_share * bound + (1 - genuine_share) * self.impostors for bound in self.genuine
        )
        return max(self.live - high, 0.0) + min(self.live - low, 0.0)


@dataclass(frozen=True, slots=True)
class Drift:
    """How far live calls are from the nearest mixture.

    `distance` is the largest excess of any level, at the `genuine_share` that makes it smallest
    (the highest such share): 0 if the calibration explains the live calls, up to 1 if it explains
    none of them. `upwards` if live calls have higher llrs than that mixture.
    """

    levels: tuple[Level, ...]
    genuine_share: float
    distance: float
    upwards: bool


def measure_drift(calibration: Calibration, live: Buckets) -> Drift | None:
    """Measure the drift of live calls; None without calls, or if the calibration has no table."""
    if not calibration.false_match or not live or live[-1][1] == 0:
        return None
    levels = tuple(
        Level(llr, share_above(live, llr), rate, genuine)
        for (rate, llr), genuine in zip(
            calibration.false_match, _bound_genuine(calibration), strict=True
        )
    )
    shares = (n / (_SHARES - 1) for n in range(_SHARES))
    share = min(shares, key=lambda p: (abs(_find_worst(levels, p)), -p))
    excess = _find_worst(levels, share)
    return Drift(levels, share, abs(excess), excess > 0)


def share_above(live: Buckets, llr: float) -> float:
    """The share of calls at or above an llr, linear within a bucket."""
    below = 0.0
    for (lower, at_lower), (upper, at_upper) in itertools.pairwise(((-math.inf, 0.0), *live)):
        if upper >= llr:
            inside = upper - lower
            part = (llr - lower) / inside if math.isfinite(inside) else 1.0
            below = at_lower + part * (at_upper - at_lower)
            break
    return 1 - below / live[-1][1]


def median(live: Buckets) -> float:
    """The llr that half of the calls reach, linear within a bucket; NaN without calls."""
    half = live[-1][1] / 2 if live else 0.0
    for (lower, at_lower), (upper, at_upper) in itertools.pairwise(((-math.inf, 0.0), *live)):
        if at_upper >= half > 0:
            if not math.isfinite(upper - lower):
                return upper if math.isfinite(upper) else lower
            return lower + (half - at_lower) / (at_upper - at_lower) * (upper - lower)
    return math.nan


def _find_worst(levels: Iterable[Level], genuine_share: float) -> float:
    return max((level.excess(genuine_share) for level in levels), key=abs)


def _bound_genuine(calibration: Calibration) -> Iterable[tuple[float, float]]:
    """Yield the lowest and highest share of genuine callers at or above each point of the table.

    Only the sum of the shares below the first point and above the last is known, and an upper bound
    of the former.
    """
    points = calibration.false_match
    inside = [_genuine_between(*pair) for pair in itertools.pairwise(points)]
    outside = max(1 - sum(inside), 0.0)
    (first_rate, first_llr), (last_rate, last_llr) = points[0], points[-1]
    below = min(outside, (1 - first_rate) * math.exp(first_llr))
    least_above = max(outside - below, min(outside, last_rate * math.exp(last_llr)))
    for index in range(len(points)):
        known = sum(inside[index:])
        yield min(known + least_above, 1.0), min(known + outside, 1.0)


def _genuine_between(start: tuple[float, float], end: tuple[float, float]) -> float:
    """The share of genuine callers between two points: the integral of exp(l) over the impostors
    there, whose logarithmic rate is linear as in `thresholds.false_match_threshold`."""
    (rate, lower), (less, upper) = start, end
    if upper <= lower:
        return (rate - less) * math.exp(lower)
    slope = math.log(rate / less) / (upper - lower)
    growth = 1 - slope
    span = math.expm1(growth * (upper - lower)) / growth if growth else upper - lower
    return rate * slope * math.exp(lower) * span
