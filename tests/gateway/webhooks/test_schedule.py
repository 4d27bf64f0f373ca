"""The published schedule, and Retry-After."""

import random

import pytest

from gateway.webhooks.schedule import DELAYS_S, find_delay, parse_retry_after

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


def test_delays_are_those_published_and_a_little_later() -> None:
    chance = random.Random(1)
    hours = (5 / 3600, 5 / 60, 0.5, 2, 5, 10, 14, 20, 24)
    for attempts, published in enumerate(hours, start=1):
        drawn = [find_delay(attempts, random_source=chance) or 0.0 for _ in range(200)]
        assert published * 3600 <= min(drawn) < max(drawn) <= published * 3600 * 1.2
        assert len(set(drawn)) == len(drawn)
    assert find_delay(len(DELAYS_S) + 1, random_source=chance) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0.0),
        ("120", 120.0),
        ("0", 0.0),
        ("99999999", 86400.0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2099 07:00:00 GMT", 86400.0),
        ("-5", 0.0),
        ("soon", 0.0),
        ("", 0.0),
    ],
)
def test_retry_after(header: str | None, seconds: float) -> None:
    assert parse_retry_after(header, now=NOW) == seconds
