"""A harness: hostile bytes in, and nothing out but an answer or a documented error, within limits.

    seeds ─> mutated by hypothesis (`test_hostile`) or atheris (`python -m tests.fuzz`) ─> check

Each harness says in its docstring which errors are documented.
"""

import resource
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from random import Random

MAX_BYTES = 8_192
"""The most that one input holds."""

MAX_GROWTH_BYTES = 64 * 2**20
MAX_CPU_S = 5.0

Check = Callable[[bytes], None]
Change = Callable[[bytes, Random], bytes]


class LimitExceeded(Exception):
    """An input took more processor time or memory than any of `MAX_BYTES` may."""


@dataclass(frozen=True, slots=True)
class Harness:
    """`opened` gives what is to be called with each input; `seeds` are inputs that are well-formed,
    or nearly so, for others to be made from. `change` makes one that gets further than changed
    bytes do."""

    name: str
    opened: Callable[[], AbstractContextManager[Check]]
    seeds: Callable[[], Iterable[bytes]]
    change: Change | None = None


def stateless(
    name: str, check: Check, seeds: Callable[[], Iterable[bytes]], change: Change | None = None
) -> Harness:
    """A harness of a function of its input alone."""
    return Harness(name, lambda: nullcontext(limited(check)), seeds, change)


def limited(check: Check) -> Check:
    """`check`, which then raises `LimitExceeded` for an input that costs too much.

    Memory is how far an input raises the peak of what the process has resident.
    """

    def within_limits(data: bytes) -> None:
        peak_bytes, used_s = _peak_bytes(), time.process_time()
        check(data)
        if (grown := _peak_bytes() - peak_bytes) > MAX_GROWTH_BYTES:
            raise LimitExceeded(f"{len(data)} bytes took {grown} bytes of memory")
        if (spent_s := time.process_time() - used_s) > MAX_CPU_S:
            raise LimitExceeded(f"{len(data)} bytes took {spent_s:.1f} s of processor time")

    return within_limits


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
