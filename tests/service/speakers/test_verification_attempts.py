"""Claims from the first question to the last: counted, locked and entered, however they end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.audit import Auditor, Origin, Trail, chain
from service.audit.entries import parse_line
from service.decisions.decision import ClaimedSpeaker, ClaimStatus, Decision, Outcome, Score
from service.errors import OverLimit, Overloaded, SpeakerLocked, Unavailable
from service.speakers.lockout import Lockout
from service.speakers.verification_attempts import VerificationAttempts
from service.store import FailureCount, LockRule, Speaker, SpeakerState, Store, open_store

RULE = LockRule(failures=2, lock_s=60.0, longest_s=3600.0)


def decision(outcome: Outcome, met: bool | None) -> Decision:
    score = None if met is None else Score(0.5, 1.0)
    return Decision(outcome, "model-a", "", score=score, meets_server_policy=met)


ACCEPTED, REJECTED = decision(Outcome.ACCEPTED, True), decision(Outcome.REJECTED, False)
UNDECIDED = decision(Outcome.INCONCLUSIVE, False)
NEARLY = decision(Outcome.INCONCLUSIVE, True)
LAX, STRICT = decision(Outcome.ACCEPTED, False), decision(Outcome.REJECTED, True)
TOO_SHORT = decision(Outcome.INCONCLUSIVE, None)


class Desk:
    def __init__(self, folder: Path, store: Store, trail: Trail) -> None:
        self._folder = folder
        self.store = store
        self.lockout = Lockout(store, RULE)
        self.events: list[str] = []
        self.attempts = VerificationAttempts(
            self.lockout,
            Auditor(trail, origin=lambda: Origin("t", "key:k1", "r")),
            observe=self.events.append,
        )

    async def reject(self, times: int = 1) -> None:
        for _ in range(times):
            async with self.attempts.open("alice") as attempt:
                await attempt.settle(REJECTED)

    async def failures(self) -> int:
        return (await self.store.failures.get("t", "alice")).consecutive

    def told(self) -> list[tuple[str, str]]:
        """Action and outcome of every entry."""
        facts: list[dict[str, Any]] = [
            dict(parse_line(line.text) or {}) for line in chain.lines([self._folder])
        ]
        return [(fact["action"], fact["outcome"]) for fact in facts]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with (
        open_store(f"sqlite:///{tmp_path}/voices.db", timeout_s=10.0) as store,
        Trail(tmp_path / "audit") as trail,
    ):
        alice = Speaker("t", "alice", SpeakerState.ENROLLED, created_at=0.0, updated_at=0.0)
        await store.put(alice, expected_etag=None)
        yield Desk(tmp_path / "audit", store, trail)


async def test_the_failure_that_locks_is_told_and_entered(desk: Desk) -> None:
    await desk.reject(2)
    with pytest.raises(SpeakerLocked):
        async with desk.attempts.open("alice"):
            pytest.fail("a locked speaker is not verified")
    assert desk.told() == [
        ("verify", "REJECTED"),
        ("verify", "REJECTED"),
        ("lock", "DONE"),
        ("verify", "LOCKED"),
    ]


async def test_an_acceptance_that_comes_after_the_lock_is_withheld(desk: Desk) -> None:
    async with desk.attempts.open("alice") as attempt:
        await desk.reject(2)
        with pytest.raises(SpeakerLocked):
            await attempt.settle(ACCEPTED)
    assert desk.told()[-1] == ("verify", "LOCKED")


@pytest.mark.parametrize("late", [ACCEPTED, REJECTED, UNDECIDED, TOO_SHORT])
async def test_a_stream_from_before_the_lock_is_told_nothing_more(
    desk: Desk, late: Decision
) -> None:
    async with desk.attempts.open("alice") as attempt:
        assert await attempt.may_answer(UNDECIDED)
        await desk.reject(2)
        with pytest.raises(SpeakerLocked):
            await attempt.may_answer(late)
    assert desk.told()[-1] == ("verify", "LOCKED")
    assert desk.events == ["locked", "refused"]


async def test_parallel_calls_are_told_no_more_than_the_limit(desk: Desk) -> None:
    opened, told = asyncio.Barrier(20), 0

    async def one() -> None:
        nonlocal told
        async with desk.attempts.open("alice") as attempt:
            await opened.wait()
            await attempt.settle(REJECTED)
            told += 1

    outcomes = await asyncio.gather(*(one() for _ in range(20)), return_exceptions=True)
    assert told == RULE.failures
    assert [type(outcome) for outcome in outcomes].count(SpeakerLocked) == 18


@pytest.mark.parametrize(
    ("last", "failures"),
    [(REJECTED, 1), (LAX, 1), (UNDECIDED, 1), (ACCEPTED, 0), (STRICT, 0), (TOO_SHORT, 1)],
)
async def test_a_call_counts_once_by_the_servers_own_policy(
    desk: Desk, last: Decision, failures: int
) -> None:
    """An end that compares nothing, as clipped talk does, takes no failure back."""
    async with desk.attempts.open("alice") as attempt:
        for each in (REJECTED, UNDECIDED, ACCEPTED, REJECTED):
            assert await attempt.may_answer(each)
        await attempt.settle(last)
    assert await desk.failures() == failures


@pytest.mark.parametrize(
    ("last", "failures"), [(LAX, 2), (UNDECIDED, 2), (TOO_SHORT, 1), (STRICT, 0), (ACCEPTED, 0)]
)
async def test_only_the_servers_own_policy_clears(
    desk: Desk, last: Decision, failures: int
) -> None:
    await desk.reject()
    async with desk.attempts.open("alice") as attempt:
        await attempt.settle(last)
    assert await desk.failures() == failures


@pytest.mark.parametrize(
    "leaving", [asyncio.CancelledError, GeneratorExit, OverLimit, TimeoutError]
)
@pytest.mark.parametrize(
    ("told", "failures"),
    [
        ((UNDECIDED,), 1),
        ((REJECTED,), 1),
        ((LAX,), 1),
        ((UNDECIDED, TOO_SHORT), 1),
        ((ACCEPTED, REJECTED), 1),
        ((REJECTED, ACCEPTED), 0),
        ((REJECTED, NEARLY), 0),
        ((ACCEPTED, TOO_SHORT), 0),
        ((TOO_SHORT,), 0),
    ],
)
async def test_leaving_counts_if_the_last_decision_was_below_the_threshold(
    desk: Desk, told: tuple[Decision, ...], failures: int, leaving: type[BaseException]
) -> None:
    error = OverLimit("", retry_after_s=1.0) if leaving is OverLimit else leaving()
    with pytest.raises(leaving):
        async with desk.attempts.open("alice") as attempt:
            for each in told:
                await attempt.may_answer(each)
            raise error
    assert await desk.failures() == failures
    assert desk.told() == [("verify", told[-1].outcome.name)]


async def test_of_calls_at_once_no_more_are_told_scores_than_may_fail(desk: Desk) -> None:
    async with contextlib.AsyncExitStack() as stack:
        calls = [
            await stack.enter_async_context(desk.attempts.open("alice"))
            for _ in range(RULE.failures + 2)
        ]
        told = [await each.may_answer(REJECTED) for each in calls]
        assert told == [True] * RULE.failures + [False, False]
        assert await calls[-1].may_answer(ACCEPTED)  # nothing to climb on
        assert await calls[0].may_answer(REJECTED)  # as before
        assert await calls[0].may_answer(ACCEPTED)
        assert await calls[-1].may_answer(REJECTED)
        assert not await calls[-2].may_answer(REJECTED)
    assert desk.attempts.count_failing("t", "alice") == 0


@pytest.mark.parametrize("error", [Unavailable("away"), Overloaded("full", retry_after_s=1.0)])
async def test_a_call_that_the_server_ends_never_counts(desk: Desk, error: Exception) -> None:
    with pytest.raises(type(error)):
        async with desk.attempts.open("alice") as attempt:
            await attempt.may_answer(REJECTED)
            raise error
    assert await desk.failures() == 0
    assert desk.told() == [("verify", "REJECTED")]


async def test_a_call_that_is_cut_off_by_a_drain_never_counts(desk: Desk) -> None:
    with pytest.raises(asyncio.CancelledError):
        async with desk.attempts.open("alice") as attempt:
            await attempt.may_answer(REJECTED)
            desk.attempts.drain()
            raise asyncio.CancelledError
    assert await desk.failures() == 0


async def test_a_call_is_told_nothing_while_nobody_knows_whether_it_is_locked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(tenant: str, speaker_id: str) -> float:
        raise Unavailable("away")

    async with desk.attempts.open("alice") as attempt:
        with monkeypatch.context() as patch:
            patch.setattr(desk.lockout, "check", away)
            assert not await attempt.may_answer(REJECTED)
        assert await attempt.may_answer(ACCEPTED)
        await attempt.settle(ACCEPTED)


async def test_leaving_while_it_is_counted_is_no_way_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, interrupted = desk.lockout.note, [True]

    async def interruptible(tenant: str, speaker_id: str, met: bool | None) -> FailureCount | None:
        if interrupted:
            interrupted.clear()
            raise asyncio.CancelledError
        return await note(tenant, speaker_id, met)

    monkeypatch.setattr(desk.lockout, "note", interruptible)
    with pytest.raises(asyncio.CancelledError):
        async with desk.attempts.open("alice") as attempt:
            await attempt.may_answer(UNDECIDED)
            await attempt.settle(REJECTED)
    assert await desk.failures() == 1


async def test_leaving_before_anything_was_told_counts_for_nothing(desk: Desk) -> None:
    async with desk.attempts.open("alice"):
        pass
    assert desk.told() == []
    assert await desk.failures() == 0


async def test_who_claims_nobody_is_entered_but_not_counted(desk: Desk) -> None:
    for _ in range(5):
        async with desk.attempts.open("") as attempt:
            await attempt.may_answer(UNDECIDED)
            await attempt.settle(UNDECIDED)
    assert desk.told() == [("verify", "INCONCLUSIVE")] * 5


async def test_a_store_that_is_away_lets_nobody_through(desk: Desk) -> None:
    async with open_store("redis://127.0.0.1:1/0", timeout_s=0.2) as away:
        attempts = VerificationAttempts(
            Lockout(away, RULE), Auditor(None, origin=lambda: Origin("t", "none"))
        )
        with pytest.raises(Unavailable):
            async with attempts.open("alice"):
                pytest.fail("nobody knows whether alice is locked")


def shared(outcome: Outcome, met: bool | None, likeliest: str) -> Decision:
    """A decision on a claim that alice or ben speaks; carla has no voice."""
    claimed = (
        ClaimedSpeaker("alice", ClaimStatus.COMPARED),
        ClaimedSpeaker("ben", ClaimStatus.COMPARED),
        ClaimedSpeaker("carla", ClaimStatus.NOT_ENROLLED),
    )
    return replace(decision(outcome, met), likeliest=likeliest, claimed=claimed)


NEITHER = shared(Outcome.REJECTED, False, "alice")
HOUSEHOLD = ("alice", "ben", "carla")


async def count(desk: Desk, speaker_id: str) -> int:
    return (await desk.store.failures.get("t", speaker_id)).consecutive


async def add_ben(desk: Desk) -> None:
    ben = Speaker("t", "ben", SpeakerState.ENROLLED, created_at=0.0, updated_at=0.0)
    await desk.store.put(ben, expected_etag=None)


async def test_who_fails_a_household_has_guessed_at_each_who_was_compared(desk: Desk) -> None:
    await add_ben(desk)
    async with desk.attempts.open(*HOUSEHOLD) as attempt:
        await attempt.settle(NEITHER)
    assert [await count(desk, name) for name in HOUSEHOLD] == [1, 1, 0]
    assert desk.told() == [
        ("verify", "REJECTED"),
        ("verify", "REJECTED"),
        ("verify", "NOT_ENROLLED"),
    ]


async def test_a_member_cannot_wipe_out_guesses_at_another(desk: Desk) -> None:
    await add_ben(desk)
    await desk.reject()
    async with desk.attempts.open(*HOUSEHOLD) as attempt:
        await attempt.settle(shared(Outcome.ACCEPTED, True, "ben"))
    assert await count(desk, "alice") == 1


async def test_a_pass_is_of_the_likeliest(desk: Desk) -> None:
    await add_ben(desk)
    async with desk.attempts.open(*HOUSEHOLD) as attempt:
        await attempt.settle(NEITHER)
    async with desk.attempts.open(*HOUSEHOLD) as attempt:
        await attempt.settle(shared(Outcome.ACCEPTED, True, "alice"))
    assert [await count(desk, name) for name in HOUSEHOLD[:2]] == [0, 1]


async def test_a_locked_member_is_left_out(desk: Desk) -> None:
    await add_ben(desk)
    await desk.reject(2)
    async with desk.attempts.open(*HOUSEHOLD) as attempt:
        assert attempt.locked == {"alice"}
        assert set(attempt.speakers) == {"ben", "carla"}
    assert desk.told()[-1] == ("verify", "LOCKED")


async def test_a_household_of_locked_members_is_refused(desk: Desk) -> None:
    await add_ben(desk)
    for _ in range(RULE.failures):
        async with desk.attempts.open("alice", "ben") as attempt:
            await attempt.settle(NEITHER)
    with pytest.raises(SpeakerLocked):
        async with desk.attempts.open("alice", "ben"):
            pytest.fail("nobody is left")
    assert desk.events == ["locked", "locked", "refused", "refused"]


async def test_who_is_locked_during_the_call_is_not_accepted(desk: Desk) -> None:
    await add_ben(desk)
    async with desk.attempts.open("alice", "ben") as attempt:
        await desk.reject(2)
        assert not await attempt.may_answer(NEITHER)
        with pytest.raises(SpeakerLocked):
            await attempt.settle(shared(Outcome.ACCEPTED, True, "alice"))
    async with desk.attempts.open("alice", "ben") as attempt:
        await attempt.settle(shared(Outcome.ACCEPTED, True, "ben"))


async def test_parallel_calls_on_a_household_are_told_no_more_than_the_limit(desk: Desk) -> None:
    await add_ben(desk)
    async with contextlib.AsyncExitStack() as stack:
        calls = [
            await stack.enter_async_context(desk.attempts.open("alice", "ben")) for _ in range(3)
        ]
        assert [await call.may_answer(NEITHER) for call in calls] == [True, True, False]
        alone = await stack.enter_async_context(desk.attempts.open("ben"))
        assert not await alone.may_answer(UNDECIDED)
