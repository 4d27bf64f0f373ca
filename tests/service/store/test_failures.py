"""What the memory of failed verifications must do in every store."""

import asyncio
from collections.abc import Callable

import pytest
from redis_server import RedisServer

from service.errors import Unavailable
from service.store import LockRule, Speaker, Store, Tally, open_store
from service.store.failures import NO_FAILURES, keep_until

MakeSpeaker = Callable[..., Speaker]

RULE = LockRule(failures=3, window_s=100.0, lock_s=60.0, longest_s=200.0)
NOW = 1_700_000_000.0


async def fail(store: Store, tenant: str, at: float = NOW, speaker_id: str = "alice") -> Tally:
    return await store.failures.change(
        tenant, speaker_id, lambda tally: tally.failed(at, RULE), at=at, keep_s=RULE.memory_s
    )


def test_the_limit_within_the_window_locks() -> None:
    tally = NO_FAILURES.failed(NOW, RULE).failed(NOW + 99, RULE)
    assert not tally.locked(NOW + 99)
    locked = tally.failed(NOW + 99.5, RULE)
    assert locked == Tally((), NOW + 159.5, 1)
    assert locked.locked(NOW + 159.4)
    assert not locked.locked(NOW + 159.5)


def test_failures_outside_the_window_do_not_count() -> None:
    tally = NO_FAILURES
    for at in (0.0, 100.0, 150.0, 200.0, 260.0):
        tally = tally.failed(NOW + at, RULE)
        assert not tally.locks
    assert tally.failed_at == (NOW + 200, NOW + 260)


def test_every_failure_after_a_lock_doubles_it_up_to_the_longest() -> None:
    tally, at, lasted = NO_FAILURES, NOW, []
    for _ in range(3):
        tally = tally.failed(at, RULE)
    for _ in range(4):
        lasted.append(tally.locked_until - at)
        at = tally.locked_until
        tally = tally.failed(at, RULE)
    assert lasted == [60.0, 120.0, 200.0, 200.0]


def test_a_lock_is_forgotten_after_a_quiet_time() -> None:
    locked = Tally((), NOW, 5)
    assert locked.failed(NOW + RULE.memory_s - 1, RULE).locks == 6
    assert locked.failed(NOW + RULE.memory_s, RULE) == Tally((NOW + RULE.memory_s,))


def test_a_tally_is_kept_beyond_its_lock() -> None:
    assert keep_until(Tally((), NOW + 60, 1), NOW, 100.0) == NOW + 160
    assert keep_until(Tally((NOW,)), NOW, 100.0) == NOW + 100


async def test_parallel_failures_are_all_counted(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await store.put(make_speaker(), expected_etag=None)
    rule = LockRule(failures=1000, window_s=100.0, lock_s=60.0, longest_s=200.0)

    async def one() -> None:
        await store.failures.change(
            tenant, "alice", lambda tally: tally.failed(NOW, rule), at=NOW, keep_s=100.0
        )

    await asyncio.gather(*(one() for _ in range(20)))
    assert (await store.failures.get(tenant, "alice")).failed_at == (NOW,) * 20


async def test_servers_share_the_tally(
    store: Store, address: str, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await store.put(make_speaker(), expected_etag=None)
    async with open_store(address, timeout_s=10.0) as other:
        await asyncio.gather(*(fail(each, tenant) for each in (store, other, store)))
        assert (await other.failures.get(tenant, "alice")).locked(NOW)
        assert await store.failures.get(tenant, "alice") == Tally((), NOW + 60, 1)


async def test_what_a_step_raises_changes_nothing(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await store.put(make_speaker(), expected_etag=None)
    await fail(store, tenant)

    def refuse(tally: Tally) -> Tally:
        raise ValueError(len(tally.failed_at))

    with pytest.raises(ValueError, match="1"):
        await store.failures.change(tenant, "alice", refuse, at=NOW, keep_s=1.0)
    assert await store.failures.get(tenant, "alice") == Tally((NOW,))


async def test_one_speaker_and_tenant_at_a_time(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    for speaker_id, of in (("alice", tenant), ("bob", tenant), ("alice", tenant + "-other")):
        await store.put(make_speaker(speaker_id, tenant=of), expected_etag=None)
    await fail(store, tenant)
    assert await store.failures.get(tenant, "bob") == NO_FAILURES
    assert await store.failures.get(tenant + "-other", "alice") == NO_FAILURES


async def test_forgetting(store: Store, tenant: str, make_speaker: MakeSpeaker) -> None:
    await store.put(make_speaker(), expected_etag=None)
    await fail(store, tenant)
    await store.failures.change(tenant, "alice", lambda _: NO_FAILURES, at=NOW, keep_s=1.0)
    assert await store.failures.get(tenant, "alice") == NO_FAILURES


async def test_a_deleted_speaker_takes_its_tally_along(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await store.put(make_speaker(), expected_etag=None)
    await fail(store, tenant)
    await store.delete(tenant, "alice")
    assert await store.failures.get(tenant, "alice") == NO_FAILURES
    await store.put(make_speaker(), expected_etag=None)
    assert await store.failures.get(tenant, "alice") == NO_FAILURES


async def test_nothing_is_kept_of_one_whom_there_is_not(store: Store, tenant: str) -> None:
    await fail(store, tenant)
    assert await store.failures.get(tenant, "alice") == NO_FAILURES


async def test_an_enrolment_leaves_the_tally(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    stored = await store.put(make_speaker(), expected_etag=None)
    await fail(store, tenant)
    await store.put(make_speaker(metadata={"a": "b"}), expected_etag=stored.etag)
    assert await store.failures.get(tenant, "alice") == Tally((NOW,))


async def test_speakers_are_counted(store: Store, tenant: str, make_speaker: MakeSpeaker) -> None:
    assert await store.count(tenant) == 0
    for speaker_id in ("alice", "bob", "carol"):
        stored = await store.put(make_speaker(speaker_id), expected_etag=None)
    await store.put(make_speaker("carol", metadata={"a": "b"}), expected_etag=stored.etag)
    await store.put(make_speaker("alice", tenant=tenant + "-other"), expected_etag=None)
    await store.delete(tenant, "bob")
    await store.delete(tenant, "nobody")
    assert await store.count(tenant) == 2
    assert await store.count(tenant + "-other") == 1


async def test_redis_away_is_unavailable(redis_server: RedisServer, tenant: str) -> None:
    async with open_store(redis_server.url, timeout_s=0.2) as store:
        await store.failures.get(tenant, "alice")
        redis_server.pause()
        try:
            with pytest.raises(Unavailable):
                await store.failures.get(tenant, "alice")
            with pytest.raises(Unavailable):
                await fail(store, tenant)
        finally:
            redis_server.resume()


async def test_redis_forgets_by_itself(
    redis_server: RedisServer, tenant: str, make_speaker: MakeSpeaker
) -> None:
    async with open_store(redis_server.url, timeout_s=10.0) as store:
        await store.put(make_speaker(), expected_etag=None)
        await fail(store, tenant)
    left = redis_server.command("PTTL", f"sayso:{{{tenant}}}:failures:alice")
    assert 0 < int(left[1:]) <= RULE.memory_s * 1000
