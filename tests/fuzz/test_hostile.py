"""Hostile inputs from hypothesis for every harness; `HOSTILE_INPUTS` says how many each."""

import os
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.every import HARNESSES
from tests.fuzz.harness import MAX_BYTES, Check, Harness

INPUTS = int(os.environ.get("HOSTILE_INPUTS", "100"))
SPECIAL = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff")


@pytest.fixture(scope="module", params=HARNESSES, ids=lambda harness: harness.name)
def harness(request: pytest.FixtureRequest) -> Harness:
    found: Harness = request.param
    return found


@pytest.fixture(scope="module")
def check(harness: Harness) -> Iterator[Check]:
    with harness.opened() as opened:
        yield opened


def edits() -> st.SearchStrategy[list[tuple[int, int, bytes]]]:
    """Where, how many bytes go, and what comes in their place."""
    new = st.one_of(st.sampled_from(SPECIAL), st.binary(max_size=12))
    return st.lists(st.tuples(st.integers(0, MAX_BYTES), st.integers(0, 64), new), max_size=4)


def edited(seed: bytes, changes: list[tuple[int, int, bytes]], *, cut: int | None) -> bytes:
    data = bytearray(seed)
    for at, gone, new in changes:
        start = at % (len(data) + 1)
        data[start : start + gone] = new
    return bytes(data if cut is None else data[: cut % (len(data) + 1)])[:MAX_BYTES]


def hostile(harness: Harness) -> st.SearchStrategy[bytes]:
    """Seeds that were changed and perhaps cut, and bytes that no seed is behind."""
    seed = st.sampled_from(list(harness.seeds()))
    cut = st.none() | st.none() | st.integers(0, MAX_BYTES)
    changed = st.builds(edited, seed, edits(), cut=cut)
    if harness.change is None:
        return changed | changed | changed | st.binary(max_size=256)
    operated = st.builds(harness.change, seed, st.integers(0, 2**32).map(Random))
    return changed | operated | operated | st.binary(max_size=256)


def test_a_seed_costs_little_and_raises_nothing(harness: Harness, check: Check) -> None:
    seeds = list(harness.seeds())
    assert seeds
    for seed in seeds:
        assert len(seed) <= MAX_BYTES
        check(seed)


def test_hostile_input_is_answered_or_refused(harness: Harness, check: Check) -> None:
    @settings(deadline=None, max_examples=INPUTS, suppress_health_check=[HealthCheck.too_slow])
    @given(data=hostile(harness))
    def holds(data: bytes) -> None:
        check(data)

    holds()
