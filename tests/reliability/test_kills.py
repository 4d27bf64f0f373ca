"""The server is killed or told to stop under enrolment load: what it acknowledged is there."""

import asyncio
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sayso import Client, Unavailable

from benchmarks.figures import below
from service.store import open_store
from tests.reliability.enrolling import Enrolling, kept
from tests.reliability.results import Seen
from tests.reliability.serving import PATIENCE_S, RAW, server, speech, wait_until
from tests.support.sayso_server import SaysoServer

SECTION = "server"
_LONGEST_S = 0.6  # of load before a kill
_GRACE_S = 2.0
_SERVING = health_pb2.HealthCheckResponse.SERVING


async def test_killed_under_enrolment_load(store: str, kind: str, long: bool, seen: Seen) -> None:
    """At a random moment after its first acknowledgement, again and again on one store."""
    rounds, chance = 200 if long else 2, random.Random(8)
    acknowledged: dict[str, list[str]] = {}
    starts_s = []
    running = server(store)
    for number in range(rounds):
        began_s = time.monotonic()
        running.start()
        starts_s.append(time.monotonic() - began_s)
        with Enrolling(running.address, f"round-{number}") as enrolling:
            enrolling.wait_for_one()
            await asyncio.sleep(chance.uniform(0.0, _LONGEST_S))
            running.kill()
        assert not enrolling.unlike
        acknowledged |= enrolling.acknowledged
        async with open_store(store) as opened:
            assert await kept(opened, acknowledged) == []
        count = sum(map(len, acknowledged.values()))
        how = f"{count} acknowledged in {len(starts_s)} lives that ended in SIGKILL; none torn"
        seen.tell(SECTION, f"killed_on_{kind}_lost", [0], "enrolments", how, below(0))
        how = f"{len(starts_s)} starts, each after a kill"
        seen.tell(SECTION, f"start_on_{kind}", starts_s, "s", how)


class _Health:
    """What the health service says of the server, as it changes, with the time of each."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self.said: list[tuple[float, int]] = []
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def close(self) -> None:
        """A watch is a call in flight, too."""
        self._channel.close()
        self._thread.join()

    def until(self, status: int) -> float:
        """When it first said so."""
        wait_until(lambda: any(one == status for _, one in list(self.said)), f"said {status}")
        return next(at for at, one in self.said if one == status)

    def _watch(self) -> None:
        stub: Any = health_pb2_grpc.HealthStub(self._channel)
        try:
            for reply in stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S):
                self.said.append((time.monotonic(), reply.status))
        except (grpc.RpcError, ValueError):  # ValueError: the channel was closed
            pass


def _ended(running: SaysoServer) -> float:
    """When it had ended by itself, in order."""
    running.process.communicate(timeout=PATIENCE_S)
    assert running.process.returncode == 0, running.log
    return time.monotonic()


def _open_enrolment(
    sayso: Client, speaker_id: str, audio: bytes, more: threading.Event
) -> Iterator[object]:
    """A stream that waits for `more` before its second half."""

    def chunks() -> Iterator[bytes]:
        half = len(audio) // 4 * 2
        for begin, end in ((0, half), (half, len(audio))):
            for at in range(begin, end, 8000):
                yield audio[at : min(at + 8000, end)]
            assert more.wait(PATIENCE_S)

    return sayso.enroll_stream(speaker_id, chunks(), raw=RAW)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[SaysoServer]:
    with server(f"sqlite:///{tmp_path / 'sayso.db'}", drain_s=10) as started:
        yield started


async def test_told_to_stop_under_load(running: SaysoServer, tmp_path: Path, seen: Seen) -> None:
    """Not serving is said while calls are in flight; they finish; new ones are refused."""
    more = threading.Event()
    with running.client() as sayso:
        health = _Health(running.address)
        health.until(_SERVING)
        open_calls = [_open_enrolment(sayso, f"open-{n}", speech(), more) for n in range(8)]
        for call in open_calls:
            next(call)  # progress: the call is in flight
        with Enrolling(running.address, "load") as enrolling:
            enrolling.wait_for_one()
            told_s = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            unhealthy_s = health.until(health_pb2.HealthCheckResponse.NOT_SERVING) - told_s
            health.close()
            with running.client() as another, pytest.raises(Unavailable):
                another.speakers.get("nobody")
            assert running.process.poll() is None
            more.set()
            ended = [list(call)[-1] for call in open_calls]
        exit_s = _ended(running) - told_s
    assert all(one.stored for one in ended)  # type: ignore[attr-defined]
    # gRPC cancels what had arrived and was not yet given to the server
    assert all(str(error).startswith("CANCELLED") for error in enrolling.unlike)
    async with open_store(f"sqlite:///{tmp_path / 'sayso.db'}") as opened:
        assert await kept(opened, enrolling.acknowledged) == []
        for number in range(8):
            assert await opened.get("default", f"open-{number}") is not None
    how = "after SIGTERM, with 8 enrolments in flight that were finished, and 4 clients enrolling"
    seen.tell(SECTION, "stop_not_serving_after", [unhealthy_s], "s", how)
    seen.tell(SECTION, "stop_exit_after", [exit_s], "s", how, below(10.0))


def test_a_call_that_never_ends_does_not_keep_the_server(tmp_path: Path, seen: Seen) -> None:
    never = threading.Event()
    with (
        server(f"sqlite:///{tmp_path / 'sayso.db'}", drain_s=_GRACE_S) as running,
        running.client() as sayso,
    ):
        call = _open_enrolment(sayso, "endless", speech(), never)
        next(call)
        told_s = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        exit_s = _ended(running) - told_s
        never.set()
        with pytest.raises(Unavailable):
            list(call)
    how = f"after SIGTERM with a call that never ends and SAYSO_DRAIN_S={_GRACE_S:g}"
    seen.tell(SECTION, "stop_with_an_endless_call_exit_after", [exit_s], "s", how, below(5.0))
