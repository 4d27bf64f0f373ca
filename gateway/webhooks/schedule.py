"""When a delivery is tried again."""

import email.utils
import random
from datetime import UTC

_MINUTE, _HOUR = 60.0, 3600.0

DELAYS_S = (
    5.0,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
"""Before the second attempt, the third and so on: the schedule that Standard Webhooks publishes."""

THROTTLED = frozenset({429, 502, 503, 504})
"""Answers that ask for fewer requests, not only for this one later."""

_JITTER = 0.2
_LONGEST_WAIT_S = 24 * _HOUR


def find_delay(attempts: int, *, random_source: random.Random) -> float | None:
    """Seconds to wait after so many attempts, up to a fifth longer by chance, so that deliveries
    that failed together do not come back together; None after the last."""
    if attempts > len(DELAYS_S):
        return None
    return DELAYS_S[attempts - 1] * (1 + random_source.uniform(0, _JITTER))


def parse_retry_after(value: str | None, *, now: float) -> float:
    """Seconds that a Retry-After header asks for, from `now` in seconds since the epoch, at most a
    day; 0 without one, or if it is neither seconds nor a date."""
    if value is None:
        return 0.0
    if value.strip().isascii() and value.strip().isdigit():
        return min(float(value), _LONGEST_WAIT_S)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    at = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max(0.0, at.timestamp() - now), _LONGEST_WAIT_S)
