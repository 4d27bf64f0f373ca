"""When a speaker is locked, and what a caller is told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.errors import FailedPrecondition, SpeakerLocked, Unavailable
from service.speakers.lockout import Lockout
from service.store import LockRule, Speaker, SpeakerState, Store, open_store

RULE = LockRule(failures=3, lock_s=60.0, longest_s=3600.0, disable_after=10)


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path}/voices.db", timeout_s=10.0) as opened:
        for speaker_id in ("alice", "bob"):
            speaker = Speaker("t", speaker_id, SpeakerState.ENROLLED, created_at=0, updated_at=0)
            await opened.put(speaker, expected_etag=None)
        yield opened


@pytest.fixture
def lockout(store: Store, clock: Clock) -> Lockout:
    return Lockout(store, RULE, clock=clock)


async def reject(lockout: Lockout, times: int = 1, speaker_id: str = "alice") -> list[bool]:
    """Whether each of so many failures locked."""
    return [await lockout.note("t", speaker_id, False) is not None for _ in range(times)]


async def test_the_last_allowed_failure_locks(lockout: Lockout, clock: Clock) -> None:
    assert await reject(lockout, 3) == [False, False, True]
    with pytest.raises(SpeakerLocked) as refused:
        await lockout.check("t", "alice")
    assert isinstance(refused.value, FailedPrecondition)
    assert refused.value.retry_after_s == pytest.approx(60.0)
    clock.now += 60
    await lockout.check("t", "alice")


async def test_only_that_speaker_is_locked(lockout: Lockout) -> None:
    await reject(lockout, 3)
    await lockout.check("t", "bob")
    await lockout.check("other", "alice")


async def test_an_accepted_verification_clears_the_count(lockout: Lockout) -> None:
    for _ in range(4):
        assert await reject(lockout, 2) == [False, False]
        assert await lockout.note("t", "alice", True) is None


async def test_what_neither_met_nor_failed_neither_counts_nor_clears(lockout: Lockout) -> None:
    await reject(lockout, 2)
    assert await lockout.note("t", "alice", None) is None
    assert await reject(lockout) == [True]


@pytest.mark.parametrize("met", [True, False, None])
async def test_nobody_is_told_a_decision_on_a_locked_speaker(
    lockout: Lockout, store: Store, met: bool | None
) -> None:
    await reject(lockout, 3)
    before = await store.failures.get("t", "alice")
    with pytest.raises(SpeakerLocked):
        await lockout.note("t", "alice", met)
    assert await store.failures.get("t", "alice") == before


async def test_of_many_at_once_no_more_than_the_limit_are_told(lockout: Lockout) -> None:
    outcomes = await asyncio.gather(
        *(lockout.note("t", "alice", False) for _ in range(50)), return_exceptions=True
    )
    assert outcomes.count(None) == 2
    assert [type(outcome) for outcome in outcomes].count(SpeakerLocked) == 47


async def test_so_many_failures_in_all_disable_until_it_is_unlocked(
    lockout: Lockout, clock: Clock
) -> None:
    for _ in range(RULE.disable_after // 2):
        clock.now += 1e6
        await reject(lockout, 2)
        if (await lockout.count("t", "alice")).disabled:
            break
        await lockout.note("t", "alice", True)
    clock.now += 1e9
    with pytest.raises(SpeakerLocked, match="disabled until an administrator") as refused:
        await lockout.check("t", "alice")
    assert refused.value.retry_after_s is None
    assert await lockout.is_locked("t", "alice")
    await lockout.unlock("t", "alice")
    await lockout.check("t", "alice")


async def test_after_the_first_lock_every_failure_locks_for_longer(
    lockout: Lockout, clock: Clock
) -> None:
    await reject(lockout, 3)
    for lock_s in (120.0, 240.0):
        with pytest.raises(SpeakerLocked) as refused:
            await lockout.check("t", "alice")
        clock.now += refused.value.retry_after_s
        assert await reject(lockout) == [True]
        with pytest.raises(SpeakerLocked) as refused:
            await lockout.check("t", "alice")
        assert refused.value.retry_after_s == pytest.approx(lock_s)


async def test_unlocking(lockout: Lockout) -> None:
    await reject(lockout, 3)
    await lockout.unlock("t", "alice")
    await lockout.unlock("t", "nobody")
    await lockout.check("t", "alice")
    assert await reject(lockout, 2) == [False, False]


async def test_the_refusal_tells_nothing_but_when(lockout: Lockout) -> None:
    await reject(lockout, 3)
    with pytest.raises(SpeakerLocked) as refused:
        await lockout.check("t", "alice")
    assert refused.value.message == (
        "too many verifications of this speaker failed; try again in 60 s, "
        "or have an administrator unlock it"
    )


async def test_a_store_that_is_away_lets_nobody_through() -> None:
    async with open_store("redis://127.0.0.1:1/0", timeout_s=0.2) as away:
        lockout = Lockout(away, RULE)
        with pytest.raises(Unavailable):
            await lockout.check("t", "alice")
        for met in (True, False, None):
            with pytest.raises(Unavailable):
                await lockout.note("t", "alice", met)


async def test_without_a_limit_the_store_is_not_asked() -> None:
    async with open_store("redis://127.0.0.1:1/0", timeout_s=0.2) as away:
        lockout = Lockout(away, LockRule(0, 60.0, 3600.0))
        await lockout.check("t", "alice")
        assert await lockout.note("t", "alice", False) is None
        assert not await lockout.is_locked("t", "alice")
