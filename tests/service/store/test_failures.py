"""What the memory of failed verifications must do in every store."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import Unavailable
from service.store import FailureCount, LockRule, Speaker, SpeakerState, Store, open_store
from service.store.failures import NO_FAILURES
from service.store.records import encode_profile
from service.store.sqlite import failures as sqlite_failures
from service.store.sqlite import file as sqlite_file
from tests.support.redis_server import RedisServer

MakeSpeaker = Callable[..., Speaker]

RULE = LockRule(failures=3, lock_s=60.0, longest_s=200.0, disable_after=8)
YEAR_S = 365 * 86_400.0
NOW = 1_700_000_000.0


async def fail(
    store: Store, tenant: str, at: float = NOW, speaker_id: str = "alice"
) -> FailureCount:
    return await store.failures.change(
        tenant, speaker_id, lambda count: count.add_failure(at, RULE)
    )


def failed(*times: float) -> FailureCount:
    count = NO_FAILURES
    for at in times:
        count = count.add_failure(at, RULE)
    return count


def test_the_limit_locks_however_far_apart_the_failures_are() -> None:
    times = (NOW, NOW + YEAR_S, NOW + 2 * YEAR_S)
    assert not failed(*times[:2]).is_locked(times[1])
    locked = failed(*times)
    assert locked == FailureCount(3, 3, times[2] + 60.0, times[2])
    assert locked.is_locked(times[2] + 59.9)
    assert not locked.is_locked(times[2] + 60.0)


def test_every_failure_after_a_lock_doubles_it_up_to_the_longest() -> None:
    count, at, lasted = failed(NOW, NOW, NOW), NOW, []
    for _ in range(4):
        lasted.append(count.locked_until - at)
        at = count.locked_until + YEAR_S  # a quiet time forgets nothing
        count = count.add_failure(at, RULE)
    assert lasted == [60.0, 120.0, 200.0, 200.0]


def test_an_acceptance_clears_what_is_consecutive_and_not_the_total() -> None:
    assert failed(NOW, NOW).add_pass() == FailureCount(0, 2, 0.0, NOW)
    assert not failed(NOW, NOW).add_pass().add_failure(NOW, RULE).is_locked(NOW)


def test_so_many_in_all_disable_until_an_operator_acts() -> None:
    count = NO_FAILURES
    for number in range(RULE.disable_after):
        assert not count.disabled
        count = count.add_failure(NOW + number, RULE).add_pass()
    assert count.disabled
    assert count.is_locked(NOW + 100 * YEAR_S)


def test_a_record_of_an_earlier_server_is_read() -> None:
    assert FailureCount.decode(b"[[1.0, 2.0], 0.0, 0]") == FailureCount(2, 2, 0.0, 2.0)
    locked = FailureCount.decode(b"[[], 1700000060.0, 2]")
    assert locked == FailureCount(6, 6, 1_700_000_060.0)
    assert FailureCount.decode(locked.encode()) == locked


async def test_parallel_failures_are_all_counted(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await store.put(make_speaker(), expected_etag=None)
    rule = LockRule(failures=1000, lock_s=60.0, longest_s=200.0)

    async def one() -> None:
        await store.failures.change(tenant, "alice", lambda count: count.add_failure(NOW, rule))

    await asyncio.gather(*(one() for _ in range(20)))
    assert await store.failures.get(tenant, "alice") == FailureCount(20, 20, 0.0, NOW)


async def test_servers_share_the_parse_count(
    store: Store, address: str, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await store.put(make_speaker(), expected_etag=None)
    async with open_store(address, timeout_s=10.0) as other:
        await asyncio.gather(*(fail(each, tenant) for each in (store, other, store)))
        assert (await other.failures.get(tenant, "alice")).is_locked(NOW)
        assert await store.failures.get(tenant, "alice") == failed(NOW, NOW, NOW)


async def test_what_a_step_raises_changes_nothing(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await store.put(make_speaker(), expected_etag=None)
    await fail(store, tenant)

    def refuse(count: FailureCount) -> FailureCount:
        raise ValueError(count.total)

    with pytest.raises(ValueError, match="1"):
        await store.failures.change(tenant, "alice", refuse)
    assert await store.failures.get(tenant, "alice") == failed(NOW)


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
    await store.failures.change(tenant, "alice", lambda _: NO_FAILURES)
    assert await store.failures.get(tenant, "alice") == NO_FAILURES


async def test_a_deleted_speaker_takes_its_count_along(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await store.put(make_speaker(), expected_etag=None)
    await fail(store, tenant)
    await store.delete(tenant, "alice")
    assert await store.failures.get(tenant, "alice") == NO_FAILURES
    await store.put(make_speaker(), expected_etag=None)
    assert await store.failures.get(tenant, "alice") == NO_FAILURES


async def test_one_read_gives_a_speaker_and_its_failures(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    assert await store.get_with_failures(tenant, "alice") == (None, NO_FAILURES)
    await store.put(make_speaker(), expected_etag=None)
    await store.put(make_speaker(speaker_id="bob"), expected_etag=None)
    speaker = await store.get(tenant, "alice")
    assert await store.get_with_failures(tenant, "alice") == (speaker, NO_FAILURES)
    count = await fail(store, tenant)
    assert await store.get_with_failures(tenant, "alice") == (speaker, count)
    assert (await store.get_with_failures(tenant, "bob"))[1] == NO_FAILURES
    assert await store.get_with_failures("another", "alice") == (None, NO_FAILURES)


async def test_nothing_is_kept_of_one_whom_there_is_not(store: Store, tenant: str) -> None:
    await fail(store, tenant)
    assert await store.failures.get(tenant, "alice") == NO_FAILURES


async def test_an_enrollment_leaves_the_count(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    stored = await store.put(make_speaker(), expected_etag=None)
    await fail(store, tenant)
    await store.put(make_speaker(metadata={"a": "b"}), expected_etag=stored.etag)
    assert await store.failures.get(tenant, "alice") == failed(NOW)


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


async def test_redis_is_not_free_to_evict_a_parse_count(
    redis_server: RedisServer, tenant: str, make_speaker: MakeSpeaker
) -> None:
    """`volatile-*` policies take keys with a time to live only, whatever else they hold."""
    key = f"sayso:{{{tenant}}}:failures:alice"
    async with open_store(redis_server.url, timeout_s=10.0) as store:
        await store.put(make_speaker(), expected_etag=None)
        redis_server.command("SET", key, "0123456789abcdef[[1.0], 0.0, 0]", "PX", "60000")
        assert (await fail(store, tenant)).total == 2
    assert redis_server.command("PTTL", key) == b":-1\r\n"


async def test_failures_of_an_earlier_file_are_kept(tmp_path: Path) -> None:
    """Its records ended by themselves; those that had not are counted for ever now."""
    path = tmp_path / "voices.db"
    before = sqlite_file._MIGRATIONS.index(sqlite_failures.UNBOUNDED_SCHEMA)
    with contextlib.closing(sqlite3.connect(path)) as database:
        for statements in sqlite_file._MIGRATIONS[:before]:
            for statement in statements:
                database.execute(statement)
        for name, keep_until in (("alice", 1.0), ("bob", 1e12)):
            speaker = Speaker("t", name, SpeakerState.PENDING, 0.0, 0.0)
            database.execute(
                "INSERT INTO speaker VALUES ('t', ?, 'e', ?, x'')", (name, encode_profile(speaker))
            )
            row = (name, keep_until, b"[[5.0], 0.0, 0]")
            database.execute("INSERT INTO failures VALUES ('t', ?, ?, ?)", row)
        database.execute(f"PRAGMA application_id = {sqlite_file._APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {before}")
        database.commit()
    async with open_store(f"sqlite:///{path}") as store:
        assert await store.failures.get("t", "alice") == NO_FAILURES
        assert (await fail(store, "t", speaker_id="bob")).total == 2
