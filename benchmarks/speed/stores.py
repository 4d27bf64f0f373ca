"""Measure how long it takes to look up the voice of a caller among a million.

    python -m benchmarks.speed.stores [--speakers 1000000] [--reads 1000] [--rounds 7]
        [--store redis]

Writes benchmarks/results/stores.json. One voiceprint of 192 dimensions a speaker, in a real
`redis-server` without persistence and in a SQLite file, filled past the protocol with the store's
own encoders. Reads are of speakers at random, one after the other as calls come in; the kinds of
reads take turns.
"""

import argparse
import asyncio
import gc
import os
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import redis

from benchmarks.figures import Figure, below, figure, merge
from benchmarks.processes import MB, resident_mb
from service.decisions.scoring import l2_normalize
from service.store import Speaker, SpeakerState, Voiceprint, open_store
from service.store.records import encode_history, encode_profile, encode_voiceprint
from service.store.sqlite.store import SqliteStore
from tests.support.redis_server import RedisServer

TENANT, MODEL = "default", "sayso-67a431cd9198"
DIMENSION = 192
AIMS = dict.fromkeys(("read", "unknown"), below(1.0))  # p99, ms
AT_ONCE = 32
PATIENCE_S = 30.0
PART = 10_000

Reads = Callable[[str], Awaitable[object]]
Record = tuple[str, bytes, bytes, bytes]  # speaker id, profile, history, voiceprint


def format_name(number: int) -> str:
    return f"caller-{number:08d}"


def make_records(count: int) -> Iterator[list[Record]]:
    """Make `count` speakers as a store keeps them, in parts."""
    chance = np.random.default_rng(0)
    for start in range(0, count, PART):
        size = min(PART, count - start)
        vectors = l2_normalize(chance.standard_normal((size, DIMENSION), dtype=np.float32))
        yield [_record(format_name(start + at), vectors[at : at + 1]) for at in range(size)]


def _record(speaker_id: str, vectors: np.ndarray) -> Record:
    voiceprint = Voiceprint(MODEL, vectors, np.full(1, 12.5, np.float32), 1.7e9)
    speaker = Speaker(
        TENANT,
        speaker_id,
        SpeakerState.ENROLLED,
        1.7e9,
        1.7e9,
        {MODEL: voiceprint},
        enrolled_at=1.7e9,
    )
    return speaker_id, encode_profile(speaker), encode_history(()), encode_voiceprint(voiceprint)


def fill_redis(port: int, count: int) -> None:
    prefix = f"sayso:{{{TENANT}}}:"
    client = redis.Redis(port=port, protocol=2)
    for part in make_records(count):
        pipeline = client.pipeline(transaction=False)
        for speaker_id, profile, history, voiceprint in part:
            fields: dict[Any, Any] = {
                "etag": speaker_id,
                "profile": profile,
                "history": history,
                f"voiceprint:{MODEL}": voiceprint,
            }
            pipeline.hset(f"{prefix}speaker:{speaker_id}", mapping=fields)
        pipeline.zadd(f"{prefix}speakers", {speaker_id: 0 for speaker_id, *_ in part})
        pipeline.execute()
    client.close()


def fill_sqlite(path: Path, count: int) -> None:
    """Fill a file whose tables the store has made."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    for part in make_records(count):
        database.execute("BEGIN")
        database.executemany(
            "INSERT INTO speaker (tenant, speaker_id, etag, profile, history)"
            " VALUES (?, ?, ?, ?, ?)",
            [(TENANT, name, name, profile, history) for name, profile, history, _ in part],
        )
        database.executemany(
            "INSERT INTO voiceprint (tenant, speaker_id, model_id, record) VALUES (?, ?, ?, ?)",
            [(TENANT, name, MODEL, voiceprint) for name, *_, voiceprint in part],
        )
        database.execute("COMMIT")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


async def time_reads(read: Reads, names: list[str]) -> np.ndarray:
    """Time reads one after the other: milliseconds (reads,)."""
    taken = []
    for name in names:
        began = time.perf_counter()
        await read(name)
        taken.append(time.perf_counter() - began)
    return np.array(taken) * 1e3


async def measure_rate(read: Reads, names: list[str]) -> float:
    """Measure reads a second, `AT_ONCE` at once."""

    async def some(part: list[str]) -> None:
        for name in part:
            await read(name)

    began = time.perf_counter()
    await asyncio.gather(*(some(names[at::AT_ONCE]) for at in range(AT_ONCE)))
    return len(names) / (time.perf_counter() - began)


class Turns:
    """Measures kinds of reads in turn, each with its own names."""

    def __init__(self, reads: int, rounds: int) -> None:
        self._reads, self._rounds = reads, rounds
        self._chance = np.random.default_rng(1)

    def some(self, first: int, end: int) -> list[str]:
        return [format_name(number) for number in self._chance.integers(first, end, self._reads)]

    async def measure(
        self, kinds: Mapping[str, tuple[Reads, Callable[[], list[str]]]]
    ) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """Measure milliseconds (rounds, reads), and reads a second (rounds,) with many at once."""
        found: dict[str, list[tuple[np.ndarray, float]]] = {name: [] for name in kinds}
        for _ in range(self._rounds):
            for name, (read, names) in kinds.items():
                gc.collect()
                found[name].append(
                    (await time_reads(read, names()), await measure_rate(read, names()))
                )
        return {
            name: (np.stack([each for each, _ in made]), np.array([each for _, each in made]))
            for name, made in found.items()
        }


def make_figures(
    store: str,
    measured: Mapping[str, tuple[np.ndarray, np.ndarray]],
    count: int,
) -> list[Figure]:
    made = []
    how = f"{store} with {count:,} speakers, reads at random"
    for kind, (taken, rates) in measured.items():
        p50, p99 = np.percentile(taken, [50, 99], axis=1)  # (rounds,) each
        name = f"{store}_{kind}"
        made += [
            figure(f"{name}_p50", p50.tolist(), "ms", None, how),
            figure(f"{name}_p99", p99.tolist(), "ms", AIMS.get(kind), how),
            figure(f"{name}_rate", rates.tolist(), "reads/s", None, f"{how}, {AT_ONCE} at once"),
        ]
    return made


async def measure_redis(count: int, turns: Turns) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), "--save", "", "--appendonly", "no")
        with server:
            began = time.perf_counter()
            fill_redis(server.port, count)
            print(f"redis filled in {time.perf_counter() - began:.0f} s", flush=True)
            client = redis.Redis(port=server.port, protocol=2)
            used_mb = float(client.info("memory")["used_memory"]) / MB
            client.close()
            async with open_store(server.url, timeout_s=PATIENCE_S) as store:
                measured = await turns.measure(
                    {
                        "read": (partial(store.get, TENANT), lambda: turns.some(0, count)),
                        "unknown": (
                            partial(store.get, TENANT),
                            lambda: turns.some(count, 2 * count),
                        ),
                    }
                )
    how = f"{count:,} speakers"
    return [
        *make_figures("redis", measured, count),
        figure("redis_memory", [used_mb], "MB", None, f"what Redis says that {how} use"),
        figure("redis_memory_each", [used_mb * 1000 / count], "kB", None, f"of {how}, each"),
    ]


async def measure_sqlite(count: int, turns: Turns) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sayso.db"
        async with open_store(f"sqlite:///{path}"):
            pass
        began = time.perf_counter()
        await asyncio.to_thread(fill_sqlite, path, count)
        print(f"sqlite filled in {time.perf_counter() - began:.0f} s", flush=True)
        size_mb = path.stat().st_size / MB
        store = SqliteStore(path)
        began = time.perf_counter()
        async with store:
            opened_s = time.perf_counter() - began
            before_mb = resident_mb(os.getpid())
            measured = await turns.measure(
                {
                    "read": (partial(store.get, TENANT), lambda: turns.some(0, count)),
                    "unknown": (
                        partial(store.get, TENANT),
                        lambda: turns.some(count, 2 * count),
                    ),
                }
            )
            grown_mb = resident_mb(os.getpid()) - before_mb
    how = f"{count:,} speakers"
    return [
        *make_figures("sqlite", measured, count),
        figure("sqlite_file", [size_mb], "MB", None, how),
        figure("sqlite_file_each", [size_mb * 1000 / count], "kB", None, f"of {how}, each"),
        figure(
            "sqlite_open", [opened_s], "s", None, f"to open the file of {how}, its check included"
        ),
        figure("sqlite_reader_memory", [grown_mb], "MB", None, "by which reading grew the process"),
    ]


STORES: Mapping[str, Callable[[int, Turns], Coroutine[Any, Any, list[Figure]]]] = {
    "redis": measure_redis,
    "sqlite": measure_sqlite,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speakers", type=int, default=1_000_000)
    parser.add_argument("--reads", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--store", choices=STORES, action="append")
    arguments = parser.parse_args()
    for name in arguments.store or STORES:
        figures = asyncio.run(
            STORES[name](arguments.speakers, Turns(arguments.reads, arguments.rounds))
        )
        merge("stores", f"{name}_", figures)


if __name__ == "__main__":
    main()
