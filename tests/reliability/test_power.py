"""What Redis loses of acknowledged writes: nothing with `always`, a moment with `everysec`."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.figures import below
from service.errors import Unavailable
from service.store import Speaker, SpeakerState, Store, Voiceprint, open_store
from tests.reliability.power import Synchronised, Traced
from tests.reliability.results import Seen
from tests.support.redis_server import RedisServer

SECTION = "redis"
_WRITERS = 8


def _speaker(number: int) -> Speaker:
    vectors = np.ones((5, 256), np.float32)
    voice = Voiceprint("model", vectors, np.ones(5, np.float32), 1.0)
    return Speaker(
        *("default", f"speaker-{number}", SpeakerState.ENROLLED, 1.0, 1.0),
        voiceprints={"model": voice},
    )


@asynccontextmanager
async def _enrolling(url: str, first: int) -> AsyncIterator[dict[str, float]]:
    """New speakers without pause, until left; when each of them was acknowledged."""
    told_s: dict[str, float] = {}
    numbers = iter(range(first, first + 10**9))

    async def enrol(store: Store) -> None:
        with contextlib.suppress(Unavailable):
            while True:
                speaker = _speaker(next(numbers))
                await store.put(speaker, expected_etag=None)
                told_s[speaker.speaker_id] = time.monotonic()

    async with open_store(url) as store, asyncio.TaskGroup() as group:
        tasks = [group.create_task(enrol(store)) for _ in range(_WRITERS)]
        yield told_s
        for task in tasks:
            task.cancel()


async def _lost(url: str, told_s: dict[str, float]) -> list[float]:
    """When those were acknowledged who are not there."""
    async with open_store(url, timeout_s=10.0) as store:
        held = {each.speaker_id for each in await store.get_many("default", list(told_s))}
    return [at for speaker_id, at in told_s.items() if speaker_id not in held]


@pytest.mark.parametrize("policy", ["always", "everysec"])
@pytest.mark.parametrize("end", ["killed", "power cut"])
async def test_writes_acknowledged_before_the_end(
    policy: str, end: str, tmp_path: Path, long: bool, seen: Seen
) -> None:
    if end == "power cut" and not long:
        pytest.skip("--long traces Redis for this, which takes a machine of its own")
    rounds, chance = 20 if long else 1, random.Random(8)
    count, lost, windows_s = 0, [], []
    durable = ("--save", "", "--appendonly", "yes", "--appendfsync", policy)
    one_file = ("--auto-aof-rewrite-percentage", "0")
    with RedisServer(tmp_path, *durable, *one_file) as redis:
        for number in range(rounds):
            traced = Traced(redis, tmp_path) if end == "power cut" else None
            async with _enrolling(redis.url, number * 10**6) as told_s:
                await asyncio.sleep(chance.uniform(0.5, 3.0))
                ended_s = time.monotonic()
                await asyncio.to_thread(traced.cut if traced else redis.kill)
            redis.start()
            missing_s = await _lost(redis.url, told_s)
            count += len(told_s)
            lost.append(len(missing_s))
            windows_s.append(ended_s - min(missing_s, default=ended_s))
    assert count > 0
    if policy == "always" or end == "killed":
        assert sum(lost) == 0
    name = f"{policy}_{end.replace(' ', '_')}"
    how = f"{count} enrolments acknowledged in {rounds} rounds, appendfsync {policy}, {end}"
    aim = below(0) if policy == "always" else None
    seen.tell(SECTION, f"{name}_lost", [sum(lost)], "enrolments", how, aim)
    if policy == "everysec":
        how = f"{rounds} rounds: between the end and the earliest acknowledgement that was lost"
        seen.tell(SECTION, f"{name}_window", windows_s, "s", how)
        seen.tell(SECTION, f"{name}_window_at_most", [max(windows_s)], "s", how)


def test_what_was_synchronised_is_read_from_a_trace() -> None:
    state = Synchronised("/aof", written=10, certain=10)
    trace = (
        '7 write(8</aof>, ""..., 5) = 5',
        "9 fdatasync(8</aof> <unfinished ...>",
        '7 write(8</aof>, ""..., 3) = 3',
        '7 write(3</log>, ""..., 100) = 100',
        "9 <... fdatasync resumed>) = 0",
        '7 write(8</aof>, ""..., 2) = 2',
    )
    for line in trace:
        state.read(line)
    assert (state.written, state.certain) == (20, 15)
