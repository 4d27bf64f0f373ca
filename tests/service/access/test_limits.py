"""What one tenant may use, and that another's calls do not feel it."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.access import ANYONE, Caller, Role, limits
from service.access.limits import (
    ComparisonBudgets,
    TenantLimits,
    TokenBucket,
)
from service.errors import OverLimit, Overloaded
from service.settings import ComparisonRates, TenantQuota
from service.store import Speaker, SpeakerState, Store, open_store


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path}/voices.db") as opened:
        yield opened


async def put(store: Store, speaker_id: str, tenant: str = "a") -> None:
    speaker = Speaker(tenant, speaker_id, SpeakerState.PENDING, created_at=0.0, updated_at=0.0)
    await store.put(speaker, expected_etag=None)


def test_a_bucket_gives_its_size_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(2.0, 4.0, 0.0)
    assert [bucket.take(1.0, 0.0, needed=1.0) > 0 for _ in range(6)] == [False] * 4 + [True] * 2
    taken = sum(bucket.take(1.0, at / 100, needed=1.0) == 0 for at in range(1, 1001))
    assert taken == 20


def test_a_bucket_never_holds_more_than_its_size() -> None:
    bucket = TokenBucket(2.0, 4.0, 0.0)
    assert sum(bucket.take(1.0, 3600.0) == 0 for _ in range(100)) == 4


def test_the_wait_is_what_it_takes() -> None:
    bucket = TokenBucket(2.0, 4.0, 0.0)
    assert bucket.take(24.0, 0.0) == 0
    wait_s = bucket.take(1.0, 0.0)
    assert wait_s == pytest.approx(10.0)
    assert bucket.take(1.0, wait_s - 0.01) > 0
    assert bucket.take(1.0, wait_s + 0.01) == 0


async def test_nothing_is_limited_by_default(clock: Clock, store: Store) -> None:
    limits = TenantLimits(TenantQuota(), clock=clock)
    with contextlib.ExitStack() as calls:
        for n in range(1000):
            calls.enter_context(limits.admit_call("a"))
            limits.charge_audio("a", 1e6)
            await limits.check_enrollment(store, "a", f"{n}")


def test_requests_per_second(clock: Clock) -> None:
    limits = TenantLimits(TenantQuota(requests_per_s=2.0, burst_s=2.0), clock=clock)
    for _ in range(4):
        with limits.admit_call("a"):
            pass
    with (
        pytest.raises(Overloaded, match="2 requests per second") as refused,
        limits.admit_call("a"),
    ):
        pass
    assert 0 < refused.value.retry_after_s <= 0.5
    clock.now_s += refused.value.retry_after_s
    limits.charge_request("a")
    with pytest.raises(Overloaded):
        limits.charge_request("a")


def test_one_tenants_flood_refuses_no_other(clock: Clock) -> None:
    quota = TenantQuota(requests_per_s=5.0, audio_s_per_s=5.0, streams=3, burst_s=1.0)
    limits = TenantLimits(quota, clock=clock)
    with contextlib.ExitStack() as calls:
        for _ in range(1000):
            with contextlib.suppress(Overloaded):
                calls.enter_context(limits.admit_call("flood"))
            with contextlib.suppress(Overloaded):
                limits.charge_audio("flood", 3600.0)
        for _ in range(5):
            with limits.admit_call("calm"):
                limits.charge_audio("calm", 0.9)


def test_calls_in_progress(clock: Clock) -> None:
    limits = TenantLimits(TenantQuota(streams=2), clock=clock)
    with limits.admit_call("a"):
        with limits.admit_call("a"):
            with pytest.raises(Overloaded, match="2 calls"), limits.admit_call("a"):
                pass
            with limits.admit_call("b"):
                pass
        with limits.admit_call("a"):
            pass


def test_the_last_places_are_kept_for_tenants_with_few_calls(clock: Clock) -> None:
    refused = list[str]()
    limits = TenantLimits(
        TenantQuota(), calls=100, reserve=20, clock=clock, count_refusal=refused.append
    )
    with contextlib.ExitStack() as calls:
        for _ in range(80):
            calls.enter_context(limits.admit_call("flood"))
        with pytest.raises(Overloaded, match="kept for other tenants"), limits.admit_call("flood"):
            pass
        for tenant in ("b", "c", "d", "e"):
            for _ in range(5):
                calls.enter_context(limits.admit_call(tenant))
        with pytest.raises(Overloaded, match="100 calls are in progress"), limits.admit_call("f"):
            pass
        assert refused == ["reserve", "calls"]
    with limits.admit_call("flood"):
        pass


def test_one_tenant_has_every_place(clock: Clock) -> None:
    limits = TenantLimits(TenantQuota(), calls=10, clock=clock)
    with contextlib.ExitStack() as calls:
        for _ in range(10):
            calls.enter_context(limits.admit_call("a"))
        with pytest.raises(Overloaded), limits.admit_call("a"):
            pass


def test_a_call_that_fails_is_no_longer_in_progress(clock: Clock) -> None:
    limits = TenantLimits(TenantQuota(streams=1), clock=clock)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limits.admit_call("a"):
            raise ZeroDivisionError


def test_audio_is_charged_as_it_comes(clock: Clock) -> None:
    limits = TenantLimits(TenantQuota(audio_s_per_s=2.0, burst_s=5.0), clock=clock)
    for _ in range(1000):  # a call at twice real time
        limits.charge_audio("a", 0.1)
        clock.now_s += 0.05
    for _ in range(200):
        with contextlib.suppress(Overloaded):
            limits.charge_audio("a", 0.1)
    with pytest.raises(Overloaded, match="2 seconds of audio per second"):
        limits.charge_audio("a", 0.1)


def test_a_long_recording_is_let_in_and_the_next_one_waits(clock: Clock) -> None:
    limits = TenantLimits(TenantQuota(audio_s_per_s=10.0, burst_s=1.0), clock=clock)
    limits.charge_audio("a", 0.0)
    limits.charge_audio("a", 300.0)
    with pytest.raises(Overloaded) as refused:
        limits.charge_audio("a", 0.0)
    assert refused.value.retry_after_s == pytest.approx(29.0)


async def test_a_new_speaker_needs_room(clock: Clock, store: Store) -> None:
    limits = TenantLimits(TenantQuota(speakers=2), clock=clock)
    for speaker_id in ("one", "two"):
        await limits.check_enrollment(store, "a", speaker_id)
        await put(store, speaker_id)
    with pytest.raises(Overloaded, match="has its 2 speakers") as refused:
        await limits.check_enrollment(store, "a", "three")
    assert refused.value.retry_after_s > 0
    await limits.check_enrollment(store, "a", "one")
    await limits.check_enrollment(store, "b", "three")
    await store.delete("a", "two")
    await limits.check_enrollment(store, "a", "three")


BANK = Caller("bank", frozenset(Role), "key:1")


def budgets(clock: list[float], **rates: float) -> ComparisonBudgets:
    unlimited = ComparisonRates(per_speaker=0.0, per_credential=0.0)
    return ComparisonBudgets(replace(unlimited, **rates), clock=lambda: clock[0])


def test_a_speaker_has_a_budget_whoever_asks_and_a_credential_whomever_it_asks_about() -> None:
    now = [0.0]
    spending = budgets(now, per_speaker=1.0, per_credential=2.0, burst_s=10.0)
    other = Caller("bank", BANK.roles, "key:2")
    spending.spend(BANK, "alice", 12)
    for caller in (BANK, other):
        with pytest.raises(OverLimit, match="this speaker") as caught:
            spending.spend(caller, "alice", 0)
        assert caught.value.retry_after_s == pytest.approx(2.0)
    spending.spend(Caller("shop", BANK.roles, "key:3"), "alice", 1)
    spending.spend(BANK, "bob", 9)
    with pytest.raises(OverLimit, match="key:1 compares"):
        spending.spend(BANK, "carol", 0)
    spending.spend(other, "carol", 1)
    now[0] = 2.5
    spending.spend(other, "alice", 1)


def test_who_shows_no_credential_has_no_budget_and_0_is_no_limit() -> None:
    spending = budgets([0.0], per_speaker=1.0, per_credential=1.0, burst_s=1.0)
    for _ in range(3):
        spending.spend(ANYONE, "alice", 100)
    unlimited = budgets([0.0])
    for _ in range(3):
        unlimited.spend(BANK, "alice", 10**6)


def test_budgets_of_many_speakers_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MOST_BUCKETS", 3)
    spending = budgets([0.0], per_speaker=1.0, burst_s=1.0)
    for name in ("a", "b", "c"):
        spending.spend(BANK, name, 5)
    spending.spend(BANK, "d", 0)
    for name in ("b", "c"):
        with pytest.raises(OverLimit):
            spending.spend(BANK, name, 0)
    spending.spend(BANK, "a", 0)
