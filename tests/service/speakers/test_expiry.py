"""A wrong clock erases nothing; what time has made of a voice is erased all the same."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY
from typer.testing import CliRunner

from service.audit import Auditor, Origin
from service.commands.tenants import app
from service.speakers.expiry import Expiry
from service.speakers.lifecycle import Retention, record_enrollment
from service.store import Speaker, SpeakerState, Store, Voiceprint, open_store
from tests.support.redis_server import RedisServer

DAY_S = 86_400.0
NOW_S = 1_790_000_000.0
KEEP_S = 1095 * DAY_S
MODEL = "model-a"


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/voices.db"
    return str(request.getfixturevalue("redis").url)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
async def store(address: str) -> AsyncIterator[Store]:
    async with open_store(address, timeout_s=10.0) as opened:
        yield opened


def expiry(store: Store, clock: Clock, *, max_share: float = 0.1) -> Expiry:
    """Of a server that has just started: what it knows is in the store."""
    auditor = Auditor(None, origin=lambda: Origin("default", "server"))
    return Expiry(store, Retention(KEEP_S, clock), auditor, max_share=max_share)


async def enrol(store: Store, count: int, *, used_days_ago: float, name: str = "s") -> None:
    at = NOW_S - used_days_ago * DAY_S
    vectors = np.ones((1, 4), np.float32)
    for number in range(count):
        speaker = Speaker("bank", f"{name}{number}", SpeakerState.PENDING, at, at)
        voice = Voiceprint(MODEL, vectors, np.ones(1, np.float32), at)
        after = Speaker(
            *("bank", f"{name}{number}", SpeakerState.ENROLLED, at, at), voiceprints={MODEL: voice}
        )
        await store.put(record_enrollment(speaker, after, now=at), expected_etag=None)


async def voices(store: Store) -> int:
    """How many have their voice, and what can be undone."""
    page = await store.list("bank", limit=1000)
    assert all(bool(each.voiceprints) is bool(each.history) for each in page.speakers)
    return sum(bool(each.voiceprints) for each in page.speakers)


def refusals(reason: str) -> float:
    return REGISTRY.get_sample_value("sayso_expiry_refused_total", {"reason": reason}) or 0.0


async def test_voices_that_nobody_uses_go_at_the_second_look(store: Store, clock: Clock) -> None:
    await enrol(store, 3, used_days_ago=1096)
    await enrol(store, 30, used_days_ago=1, name="used")
    await expiry(store, clock).sweep()
    assert await voices(store) == 33
    clock.now_s += DAY_S / 2
    await expiry(store, clock).sweep()
    assert await voices(store) == 33
    clock.now_s += DAY_S / 2
    await expiry(store, clock).sweep()
    assert await voices(store) == 30


async def test_a_clock_that_is_years_ahead_at_one_start_erases_nothing(
    store: Store, clock: Clock
) -> None:
    await enrol(store, 3, used_days_ago=5)
    clock.now_s = NOW_S + 4 * 365 * DAY_S
    await expiry(store, clock).sweep()
    clock.now_s = NOW_S
    for _ in range(3):
        await expiry(store, clock).sweep()
        clock.now_s += DAY_S
    assert await voices(store) == 3


async def test_a_clock_that_is_years_ahead_at_every_other_start_erases_nothing(
    store: Store, clock: Clock
) -> None:
    await enrol(store, 3, used_days_ago=5)
    for day in range(4):
        clock.now_s = NOW_S + day * DAY_S
        await expiry(store, clock).sweep()
        clock.now_s = NOW_S + (4 * 365 + day) * DAY_S
        await expiry(store, clock).sweep()
    assert await voices(store) == 3


async def test_a_clock_that_stays_ahead_is_told_by_the_newest_use(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await enrol(store, 3, used_days_ago=5)
    before = refusals("CLOCK_AHEAD")
    for day in range(5):
        clock.now_s = NOW_S + (4 * 365 + day) * DAY_S
        await expiry(store, clock).sweep()
    assert await voices(store) == 3
    assert refusals("CLOCK_AHEAD") == before + 4
    assert "it may be ahead" in caplog.text
    assert "sayso tenants expire bank" in caplog.text


async def test_a_clock_that_is_ahead_is_not_believed_for_a_use_in_its_time(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The server serves meanwhile: one voice is used at the wrong time."""
    await enrol(store, 30, used_days_ago=5)
    before = refusals("TOO_MANY_AT_ONCE")
    for day in range(5):
        clock.now_s = NOW_S + (4 * 365 + day) * DAY_S
        await store.touch("bank", "s0", MODEL, at=clock.now_s)
        await expiry(store, clock).sweep()
    assert await voices(store) == 30
    assert refusals("TOO_MANY_AT_ONCE") == before + 4
    assert "29 of 30 voices of tenant bank" in caplog.text


async def test_a_share_of_all_voices_goes_at_most(store: Store, clock: Clock) -> None:
    await enrol(store, 8, used_days_ago=1100)
    await enrol(store, 40, used_days_ago=1, name="used")
    for _ in range(2):
        await expiry(store, clock, max_share=0.15).sweep()
        clock.now_s += DAY_S
    assert await voices(store) == 48
    await expiry(store, clock, max_share=0.2).sweep()
    assert await voices(store) == 40


async def test_one_tenant_that_cannot_be_read_does_not_keep_the_others_waiting(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await enrol(store, 1, used_days_ago=1100)
    await enrol(store, 9, used_days_ago=1, name="used")
    for name in ("aaa", "zzz"):
        await store.put(Speaker(name, "x", SpeakerState.PENDING, 0.0, 0.0), expected_etag=None)
        assert await store.keys.add(name, 1, b"of a master key that is not here")  # type: ignore[attr-defined]
    for _ in range(2):
        await expiry(store, clock).sweep()
        clock.now_s += DAY_S
    assert await voices(store) == 9


def test_an_operator_erases_on_purpose(address: str) -> None:
    async def run(work: Callable[[Store], object]) -> object:
        async with open_store(address, timeout_s=10.0) as store:
            return await work(store)  # type: ignore[misc]

    asyncio.run(run(lambda store: enrol(store, 30, used_days_ago=4000)))
    environment = {"SAYSO_STORE": address}
    asked = CliRunner().invoke(app, ["expire", "bank"], env=environment, input="n\n")
    assert asked.exit_code == 1
    assert "30 of 30 voices of bank have expired" in asked.stdout
    assert asyncio.run(run(voices)) == 30
    done = CliRunner().invoke(app, ["expire", "bank", "--yes"], env=environment)
    assert "30 voices were erased" in done.stdout
    assert asyncio.run(run(voices)) == 0
