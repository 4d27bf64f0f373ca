"""Redis goes away in every way that it can, and comes back: what callers are told, and how soon."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sayso import Unavailable

from benchmarks.figures import below
from service.store import open_store
from tests.reliability.enrolling import Enrolling, kept
from tests.reliability.proxy import Proxy
from tests.reliability.results import Seen
from tests.reliability.serving import PATIENCE_S, RAW, server, speech, wait_until
from tests.reliability.verifying import Verifying
from tests.support.redis_server import RedisServer
from tests.support.sayso_server import SaysoServer

SECTION = "redis"
VOICE = "slt"
REFUSED_S, RECOVERED_S = below(2.0), below(1.0)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(redis: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis.port) as running:
        yield running


@pytest.fixture(scope="module")
def sayso(proxy: Proxy) -> Iterator[SaysoServer]:
    """A server that reaches Redis through the proxy, with a voice."""
    with server(proxy.url) as running:
        enrol(running)
        yield running


def enrol(running: SaysoServer) -> None:
    with running.client() as client:
        assert client.enroll(VOICE, speech(), raw=RAW).stored


@dataclass(frozen=True, slots=True)
class Fault:
    """How the store goes away and comes back, and what is asked of it meanwhile."""

    begin: Callable[[], None]
    end: Callable[[], None]
    rounds: int
    lasts_s: float


def _outages(running: SaysoServer, fault: Fault) -> tuple[list[float], list[float]]:
    """Seconds to each refusal, and from the end of each outage to the first decision after it."""
    refused_s, recovered_s = [], []
    with Verifying(running.address, VOICE) as calls:
        for _ in range(fault.rounds):
            calls.wait_for("ACCEPTED", since_s=time.monotonic())
            began_s = time.monotonic()
            fault.begin()
            calls.wait_for("Unavailable", since_s=began_s)
            time.sleep(fault.lasts_s)
            fault.end()
            back_s = time.monotonic()
            recovered_s.append(calls.wait_for("ACCEPTED", since_s=back_s).ended_s - back_s)
            answers = [one for one in calls.since(began_s) if one.ended_s <= back_s]
            refused_s += [one.took_s for one in answers if one.outcome == "Unavailable"]
    assert {one.outcome for one in calls.answers} <= {"ACCEPTED", "Unavailable"}
    return refused_s, recovered_s


def _tell(seen: Seen, name: str, found: tuple[list[float], list[float]]) -> None:
    refused_s, recovered_s = found
    rounds = f"{len(recovered_s)} outages"
    how = f"{len(refused_s)} verifications that ended in {rounds}, each UNAVAILABLE"
    seen.tell(SECTION, f"{name}_refused_after", refused_s, "s", how)
    seen.tell(
        SECTION, f"{name}_refused_after_at_most", [max(refused_s)], "s", "of these", REFUSED_S
    )
    how = f"{rounds}; from its end to the first decision on a call that began after it"
    seen.tell(SECTION, f"{name}_recovered_after", recovered_s, "s", how)
    seen.tell(SECTION, f"{name}_recovered_at_most", [max(recovered_s)], "s", rounds, RECOVERED_S)


FAULTS = ("killed", "paused", "slow", "cut")


@pytest.mark.parametrize("name", FAULTS)
def test_an_outage(
    name: str, sayso: SaysoServer, redis: RedisServer, proxy: Proxy, long: bool, seen: Seen
) -> None:
    """Slow is a second to each reply, cut is every reply broken in its middle."""

    def slow(delay_s: float) -> Callable[[], None]:
        return lambda: setattr(proxy, "delay_s", delay_s)

    def cut(share: float) -> Callable[[], None]:
        return lambda: setattr(proxy, "cut", share)

    begin, end = {
        "killed": (redis.kill, redis.start),
        "paused": (redis.pause, redis.resume),
        "slow": (slow(1.0), slow(0.0)),
        "cut": (cut(1.0), cut(0.0)),
    }[name]
    fault = Fault(begin, end, rounds=10 if long else 1, lasts_s=3.0 if long else 0.5)
    _tell(seen, name, _outages(sayso, fault))


async def test_some_replies_cut(sayso: SaysoServer, proxy: Proxy, long: bool, seen: Seen) -> None:
    """Every tenth reply is broken in its middle: what is acknowledged took effect, once."""
    proxy.cut = 0.1
    wanted, patience_s = (300, 300.0) if long else (10, PATIENCE_S)
    with Enrolling(sayso.address, "cut") as enrolling:
        wait_until(
            lambda: enrolling.count + enrolling.refused >= wanted, "enrolled", patience_s=patience_s
        )
    proxy.cut = 0.0
    assert not enrolling.unlike
    async with open_store(proxy.url) as store:
        assert await kept(store, enrolling.acknowledged) == []
    how = f"{enrolling.count} enrolments while every tenth reply of Redis was cut ({proxy.cuts})"
    seen.tell(SECTION, "cut_replies_lost", [0], "enrolments", how, below(0))
    seen.tell(SECTION, "cut_replies_refused", [enrolling.refused], "enrolments", how)


def test_full(sayso: SaysoServer, redis: RedisServer) -> None:
    """Nothing new is stored, what is there stays and can be erased; room again, and all is well."""
    with sayso.client() as client:
        client.speakers.delete(VOICE)
        enrol(sayso)
        before = client.speakers.get(VOICE)
        redis.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(Unavailable):
            client.enroll(VOICE, speech()[3200:], raw=RAW)
        with pytest.raises(Unavailable):
            client.enroll("another", speech(), raw=RAW)
        assert client.speakers.get(VOICE) == before
        assert client.verify(VOICE, speech(), raw=RAW).outcome == "ACCEPTED"  # its first use
        redis.command("CONFIG", "SET", "maxmemory", "0")
        assert client.verify(VOICE, speech(), raw=RAW).outcome == "ACCEPTED"
        redis.command("CONFIG", "SET", "maxmemory", "1")
        assert client.verify(VOICE, speech(), raw=RAW).outcome == "ACCEPTED"
        client.speakers.delete(VOICE)
        assert client.verify(VOICE, speech(), raw=RAW).outcome == "NOT_ENROLLED"
        redis.command("CONFIG", "SET", "maxmemory", "0")
        assert client.enroll(VOICE, speech(), raw=RAW).stored


def test_restarted_empty(tmp_path: Path) -> None:
    """A voice that was held in memory is not decided on once the store has lost it."""
    with (
        RedisServer(tmp_path, "--save", "", "--appendonly", "no") as redis,
        server(redis.url) as running,
        Verifying(running.address, VOICE) as calls,
    ):
        enrol(running)
        calls.wait_for("ACCEPTED", since_s=time.monotonic())
        redis.kill()
        redis.start()
        back_s = time.monotonic()
        calls.wait_for("NOT_ENROLLED", since_s=back_s)
        assert "ACCEPTED" not in {one.outcome for one in calls.since(back_s)}
        enrol(running)
        calls.wait_for("ACCEPTED", since_s=time.monotonic())


async def test_nothing_acknowledged_is_lost_with_always(
    tmp_path: Path, long: bool, seen: Seen
) -> None:
    rounds, count, chance = 20 if long else 2, 0, random.Random(8)
    with RedisServer(tmp_path) as redis, server(redis.url) as running:
        for number in range(rounds):
            with Enrolling(running.address, f"round-{number}") as enrolling:
                enrolling.wait_for_one()
                await asyncio.sleep(chance.uniform(0.0, 0.5))
                redis.kill()
            redis.start()
            assert not enrolling.unlike
            async with open_store(redis.url) as store:
                assert await kept(store, enrolling.acknowledged) == []
            count += enrolling.count
    how = f"{count} acknowledged by a server whose Redis was killed {rounds} times"
    seen.tell(SECTION, "always_lost", [0], "enrolments", how, below(0))
