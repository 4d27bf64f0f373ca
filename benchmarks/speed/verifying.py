"""Send requests to a server and time them, closed-loop or as they arrive by chance.

    send_in_turn    each caller sends the next request when it has its answer
    send_at_random  a Poisson process sends them, whether or not the server keeps up

A process of its own sends bytes that were serialised beforehand and leaves answers unread, so that
it takes as little of the machine as Python can; what it takes is told.
"""

import asyncio
import itertools
import math
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import confine_to_cores
from benchmarks.speed.callers import CALLS_PER_CHANNEL, open_channel

VERIFY = "/sayso.v1.VerificationService/Verify"

_LAST_ANSWER_S = 60.0

_Answer: TypeAlias = tuple[int, float, float, float]  # which request, due, sent, answered


@dataclass(frozen=True, slots=True)
class Answers:
    """For all requests, `(n,)` each: which it was, and when in seconds it was due, sent and
    answered; `cores` are those that sending took."""

    which: NDArray[np.int64]
    due_s: NDArray[np.float64]
    sent_s: NDArray[np.float64]
    answered_s: NDArray[np.float64]
    cores: float

    @property
    def latencies_s(self) -> NDArray[np.float64]:
        """Seconds from when a request was due, so that a late sender counts against the server."""
        return self.answered_s - self.due_s

    def select_answered(self, since_s: float, until_s: float) -> NDArray[np.int64]:
        """Select the requests answered in that time, counted from when the first was due."""
        after_s = self.answered_s - self.due_s.min()
        inside: NDArray[np.bool_] = (since_s <= after_s) & (after_s < until_s)
        return np.asarray(self.which[inside])


def list_other_cores(cores: int) -> set[int]:
    """List the cores that a server on the first `cores` does not have; all if it has them all."""
    every = sorted(os.sched_getaffinity(0))
    return set(every[cores:] or every)


@contextmanager
def start_process(cores: Set[int]) -> Iterator[Executor]:
    """Start a process on those cores that runs what is submitted to it."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        with confine_to_cores(cores):
            pool.submit(os.getpid).result()
        yield pool


def send_in_turn(
    address: str,
    requests: Sequence[bytes],
    callers: int,
    seconds: float | None = None,
    method: str = VERIFY,
) -> Answers:
    """Send requests by `callers` in a closed loop: round and round for `seconds`, or each once."""
    feed = iter(range(len(requests))) if seconds is None else _rounds(len(requests), seconds)

    async def call(send: Any, found: list[_Answer]) -> None:
        for index in feed:
            sent_s = time.monotonic()
            await send(requests[index])
            found.append((index, sent_s, sent_s, time.monotonic()))

    return _send_all(address, method, [call] * callers)


def send_at_random(
    address: str, requests: Sequence[bytes], rate: float, seconds: float, seed: int
) -> Answers:
    """Send requests at random times, `rate` a second on average, for `seconds`."""
    chance = np.random.default_rng(seed)
    dues_s = np.cumsum(chance.exponential(1 / rate, math.ceil(rate * seconds)))
    which = chance.permutation(np.arange(len(dues_s)) % len(requests))
    began_s = time.monotonic() + 0.1

    def at(due_s: float, index: int) -> Any:
        async def call(send: Any, found: list[_Answer]) -> None:
            await asyncio.sleep(due_s - time.monotonic())
            sent_s = time.monotonic()
            await send(requests[index])
            found.append((index, due_s, sent_s, time.monotonic()))

        return call

    times = zip(dues_s.tolist(), which.tolist(), strict=True)
    return _send_all(address, VERIFY, [at(began_s + due_s, index) for due_s, index in times])


def _rounds(count: int, seconds: float) -> Iterator[int]:
    until_s = time.monotonic() + seconds
    for index in itertools.cycle(range(count)):
        if time.monotonic() >= until_s:
            return
        yield index


def _send_all(address: str, method: str, calls: Sequence[Any]) -> Answers:
    began_s, cpu_s = time.monotonic(), time.process_time()
    found = asyncio.run(_all(address, method, calls))
    cores = (time.process_time() - cpu_s) / (time.monotonic() - began_s)
    which, due_s, sent_s, answered_s = zip(*found, strict=True)
    return Answers(np.array(which), np.array(due_s), np.array(sent_s), np.array(answered_s), cores)


async def _all(address: str, method: str, calls: Sequence[Any]) -> list[_Answer]:
    """Collect all answers; raise the first failure, so that no figure counts calls that failed."""
    found: list[_Answer] = []
    lines = [
        open_channel(address) for _ in range(math.ceil(min(len(calls), 64) / CALLS_PER_CHANNEL))
    ]
    try:
        sends = [_sender(line, method) for line in lines]
        await asyncio.gather(
            *(call(sends[number % len(sends)], found) for number, call in enumerate(calls))
        )
        return found
    finally:
        for line in lines:
            await line.close()


def _sender(line: grpc.aio.Channel, method: str) -> Any:
    unary: Any = line.unary_unary(method)
    return lambda request: unary(request, timeout=_LAST_ANSWER_S)
