"""Hostile clients are refused or borne; one that behaves is answered meanwhile, and after."""

import asyncio
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sayso import Client, Overloaded, SaysoError
from sayso.v1 import verification_pb2 as pb

from benchmarks.figures import below
from benchmarks.processes import resident_mb
from service.access.grants import Grants
from tests.reliability.hostile import (
    FLOODING,
    Trickle,
    connections,
    descriptors,
    flood,
    peak_mb,
    with_metadata,
)
from tests.reliability.results import Seen
from tests.reliability.serving import RAW, server, speech, wait_until
from tests.support.audio_configs import FILE
from tests.support.sayso_server import SaysoServer

SECTION = "hostile clients"
_STREAMS = 64
_LONG_STREAMS = 1000  # the default
_WHOLE = 16 * 2**20  # bytes of a recording, by default
_LARGEST = 4 * 2**20 - 100  # bytes of audio in one message
_LARGE_MB = 2.5 * 64 * 4.2 + 100  # of 64 messages, read and parsed


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, long: bool) -> Iterator[SaysoServer]:
    folder = tmp_path_factory.mktemp("hostile")
    with started(folder, _LONG_STREAMS if long else _STREAMS) as one:
        yield one


def started(folder: Path, streams: int, **settings: object) -> SaysoServer:
    store = f"sqlite:///{folder / 'sayso.db'}"
    return server(store, max_streams=streams, log_level="error", **settings)


@pytest.fixture(scope="module")
def well_behaved(running: SaysoServer) -> Iterator[Client]:
    with running.client() as sayso:
        assert sayso.enroll("slt", speech(), raw=RAW).stored
        yield sayso


def answered(sayso: Client, times: int = 20) -> list[float]:
    """Seconds that verifications took, one after the other."""
    took_s = []
    for _ in range(times):
        began_s = time.monotonic()
        assert sayso.verify("slt", speech(), raw=RAW).outcome == "ACCEPTED"
        took_s.append(time.monotonic() - began_s)
    return took_s


def newcomer(running: SaysoServer) -> None:
    with running.client() as sayso:
        answered(sayso, 1)


def test_idle_connections(
    running: SaysoServer, well_behaved: Client, long: bool, seen: Seen
) -> None:
    count = 10_000 if long else 500
    pid = running.process.pid
    before_mb, alone_s = resident_mb(pid), answered(well_behaved)
    held_before = descriptors(pid)
    with connections(running.address, count):
        assert descriptors(pid) >= held_before + count
        took_s = answered(well_behaved)
        newcomer(running)
        after_mb = resident_mb(pid)
    wait_until(lambda: descriptors(pid) <= held_before + 8, "let go of the connections")
    newcomer(running)
    each_kb = (after_mb - before_mb) * 1000 / count
    how = f"{count} connections that speak HTTP/2 and call nothing"
    seen.tell(SECTION, "idle_connections_memory_each", [each_kb], "kB", how, below(100))
    seen.tell(SECTION, "idle_connections_verify", took_s, "s", f"20 verifications beside {how}")
    seen.tell(SECTION, "no_connections_verify", alone_s, "s", "20 verifications before them")


def test_more_connections_than_descriptors(tmp_path: Path) -> None:
    """Who is connected is answered; others are, once there is room again."""
    with started(tmp_path, _STREAMS) as running, running.client() as sayso:
        assert sayso.enroll("slt", speech(), raw=RAW).stored
        pid = running.process.pid
        limit = descriptors(pid) + 50
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
        with (
            pytest.raises((AssertionError, OSError)),
            connections(running.address, 100, patience_s=1.0),
        ):
            pass
        answered(sayso, 3)
        wait_until(lambda: descriptors(pid) < limit - 40, "let go of the connections")
        wait_until(_able(newcomer, running), "took a newcomer")


def _able(attempt: Callable[[SaysoServer], None], running: SaysoServer) -> Callable[[], bool]:
    def able() -> bool:
        try:
            attempt(running)
        except SaysoError:
            return False
        return True

    return able


async def test_streams_that_trickle(
    running: SaysoServer, well_behaved: Client, long: bool, seen: Seen
) -> None:
    """A byte a second on all calls that may be open but a few."""
    count, seconds = (_LONG_STREAMS - 10, 60) if long else (_STREAMS - 10, 2)
    pid = running.process.pid
    before_mb = resident_mb(pid)
    async with Trickle(running.address, "slt", count) as trickle:
        sending = asyncio.create_task(trickle.trickle(seconds))
        took_s = await asyncio.to_thread(answered, well_behaved, 20 if long else 5)
        await sending
        took_s += await asyncio.to_thread(answered, well_behaved, 5)
        assert trickle.open == count
        after_mb = resident_mb(pid)
    how = f"{count} calls that sent a byte a second for {seconds} s"
    each_kb = (after_mb - before_mb) * 1000 / count
    seen.tell(SECTION, "trickling_memory_each", [each_kb], "kB", how, below(300))
    seen.tell(SECTION, "trickling_verify", took_s, "s", f"{len(took_s)} verifications beside {how}")


async def test_streams_that_trickle_end(tmp_path: Path, long: bool, seen: Seen) -> None:
    """They hold their places for the server's patience, and no longer."""
    count, pause_s = (500, 10.0) if long else (_STREAMS // 2, 2.0)
    with started(tmp_path, count, max_pause_s=pause_s) as running, running.client() as sayso:
        assert sayso.enroll("slt", speech(), raw=RAW).stored
        began_s = time.monotonic()
        async with Trickle(running.address, "slt", count) as trickle:
            while trickle.open:
                assert time.monotonic() < began_s + 3 * pause_s + 5.0
                await trickle.trickle(1)
            took_s = time.monotonic() - began_s
            assert await trickle.codes() == {"DEADLINE_EXCEEDED"}
            await asyncio.to_thread(answered, sayso, 1)
    how = f"{count} calls that sent a byte a second, with SAYSO_MAX_PAUSE_S={pause_s:g}"
    seen.tell(SECTION, "trickling_ended_after", [took_s], "s", how, below(pause_s + 5.0))


async def test_streams_that_take_every_place(tmp_path: Path) -> None:
    """More than may be open: a newcomer is told that there is no room, and served after."""
    with started(tmp_path, _STREAMS) as running, running.client() as sayso:
        assert sayso.enroll("slt", speech(), raw=RAW).stored
        async with AsyncExitStack() as stack:
            while await asyncio.to_thread(_able(newcomer, running)):
                await stack.enter_async_context(Trickle(running.address, "slt", _STREAMS // 4))
            with pytest.raises(Overloaded, match="calls are in progress"):
                answered(sayso, 1)
        await asyncio.to_thread(wait_until, _able(newcomer, running), "took a newcomer")


async def test_a_flood_of_calls(
    running: SaysoServer, well_behaved: Client, long: bool, seen: Seen
) -> None:
    count = 20_000 if long else 500
    pid = running.process.pid
    before_mb = resident_mb(pid)
    ended = await flood(
        running.address, pb.EmbedRequest(audio_config=FILE, audio=b"nothing"), count
    )
    assert set(ended) <= {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "CANCELLED"}
    answered(well_behaved, 3)
    told = ", ".join(f"{number} {code}" for code, number in sorted(ended.items()))
    how = f"{count} calls at once on {FLOODING} connections: {told}"
    grown_mb = resident_mb(pid) - before_mb
    seen.tell(SECTION, "flood_memory_left", [grown_mb], "MB", how, below(200))


async def test_large_messages_all_at_once(tmp_path: Path, long: bool, seen: Seen) -> None:
    """No more of them are in memory than a tenant may have; the others wait with their clients."""
    count = 200 if long else 100
    with started(tmp_path, count) as running, running.client() as sayso:
        assert sayso.enroll("slt", speech(), raw=RAW).stored
        pid = running.process.pid
        before_mb = resident_mb(pid)
        ended = await flood(
            running.address, pb.EmbedRequest(audio_config=FILE, audio=bytes(_LARGEST)), count
        )
        assert set(ended) <= {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
        grown_mb = peak_mb(pid) - before_mb
        answered(sayso, 3)
        await asyncio.sleep(35.0 if long else 0.0)
        left_mb = resident_mb(pid) - before_mb
    how = f"{count} messages of 4 MiB at once, of which 64 may be in memory"
    assert grown_mb < _LARGE_MB
    seen.tell(SECTION, "large_messages_peak", [grown_mb], "MB", how, below(_LARGE_MB))
    seen.tell(SECTION, "large_messages_left", [left_mb], "MB", f"35 s after {how}", below(300))


async def test_too_large_messages(tmp_path: Path, long: bool, seen: Seen) -> None:
    """They are refused by their first bytes, which say how long they are."""
    count = 200 if long else 32
    with started(tmp_path, count) as running:
        pid = running.process.pid
        before_mb = resident_mb(pid)
        ended = await flood(
            running.address, pb.EmbedRequest(audio_config=FILE, audio=bytes(_WHOLE)), count
        )
        assert set(ended) == {"RESOURCE_EXHAUSTED"}
        grown_mb = peak_mb(pid) - before_mb
    how = f"{count} messages of 16 MiB at once, of which none is taken"
    assert grown_mb < 100
    seen.tell(SECTION, "too_large_messages_peak", [grown_mb], "MB", how, below(100))


async def test_large_messages_of_nobody(tmp_path: Path, long: bool, seen: Seen) -> None:
    """Who shows no credential is refused unread."""
    count, keys = 200 if long else 32, tmp_path / "keys.json"
    keys.touch(mode=0o600)
    keys.write_text(Grants().model_dump_json(), encoding="utf-8")
    with started(tmp_path, count, keys=keys) as running:
        pid = running.process.pid
        before_mb = resident_mb(pid)
        ended = await flood(
            running.address, pb.EmbedRequest(audio_config=FILE, audio=bytes(_WHOLE)), count
        )
        assert set(ended) <= {"UNAUTHENTICATED", "CANCELLED"}
        grown_mb = peak_mb(pid) - before_mb
    how = f"{count} messages of 16 MiB at once, without a credential"
    assert grown_mb < 100
    seen.tell(SECTION, "large_messages_of_nobody_peak", [grown_mb], "MB", how, below(100))


async def test_much_metadata(running: SaysoServer, well_behaved: Client, seen: Seen) -> None:
    assert await with_metadata(running.address, 1000) == "INVALID_ARGUMENT"  # of no audio
    before_mb = peak_mb(running.process.pid)
    for size in (64 * 1024, 2**20, 16 * 2**20):
        assert await with_metadata(running.address, size) in ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
    answered(well_behaved, 1)
    grown_mb = peak_mb(running.process.pid) - before_mb
    how = "calls with 64 KiB, 1 MiB and 16 MiB of metadata, all refused"
    seen.tell(SECTION, "metadata_peak", [grown_mb], "MB", how, below(50))
