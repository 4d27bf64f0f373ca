"""Verification attempts: each claim is counted and audited once, however its call ends.

    open ── locked ──> SpeakerLocked
      └─ may_answer ... may_answer ─ settle ──> count, audit, then answer
            │                          └─ locked meanwhile ──> SpeakerLocked, as at `may_answer`
            └─ no settle ──> a failure if the last answer was below the server's threshold,
                             unless the server itself ended the call

A claim to be one of several speakers is a guess at each of them whose voice was compared: its
failure counts against each, so that naming others beside a victim buys no guesses. Its pass counts
for the likeliest one only: otherwise a member of the household could, with their own voice, wipe
out failed guesses at another.
"""

import asyncio
import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Self

from service.audit import Action, Auditor, Origin
from service.decisions.decision import ClaimStatus, Decision, Outcome
from service.errors import OverLimit, Overloaded, SaysoError, SpeakerLocked, Unavailable
from service.events import Event, EventType, Publish, publish_nothing
from service.speakers.lockout import Lockout
from service.store import FailureCount, Speaker

_LOCKED = "LOCKED"
_CONCLUDE_S = 5.0

log = logging.getLogger(__name__)

Observe = Callable[[str], None]
"""Called with `locked` or `disabled` for a speaker, and with `refused` for an attempt."""


class VerificationAttempts:
    """The attempts in progress on one server."""

    def __init__(
        self,
        lockout: Lockout,
        auditor: Auditor,
        *,
        observe: Observe = lambda event: None,
        publish: Publish = publish_nothing,
    ) -> None:
        self.lockout = lockout
        self.auditor = auditor
        self._observe = observe
        self._publish = publish
        self._draining = False
        self._open = 0
        self._failing = Counter[tuple[str, str]]()
        self._none_open = asyncio.Event()
        self._none_open.set()

    def open(self, *speaker_ids: str) -> "VerificationAttempt":
        """Make an attempt for the call in progress, to be entered by `async with`: a claim to be
        one speaker, or one of several; or to be nobody, so that nobody can be locked."""
        return VerificationAttempt(self, self.auditor.origin(), speaker_ids)

    def drain(self) -> None:
        """Count no more calls that end without a decision: the server may have ended them."""
        self._draining = True

    async def wait_until_concluded(self) -> None:
        """Wait, for a few seconds at most, until the calls that a drain cut off are audited. To be
        called before the store and the trail close."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CONCLUDE_S):
                await self._none_open.wait()

    def enter(self) -> None:
        self._open += 1
        self._none_open.clear()

    def leave(self) -> None:
        self._open -= 1
        if not self._open:
            self._none_open.set()

    def ended_by_server(self, error: BaseException | None) -> bool:
        """Whether `error` ended the call without the caller's doing."""
        overloaded = isinstance(error, Overloaded) and not isinstance(error, OverLimit)
        return self._draining or overloaded or isinstance(error, Unavailable)

    def count_failing(self, tenant: str, speaker_id: str) -> int:
        """How many calls in progress would be failures if they ended now."""
        return self._failing[tenant, speaker_id]

    def change_failing(self, tenant: str, speaker_id: str, change: int) -> None:
        self._failing[tenant, speaker_id] += change
        self._failing += Counter()  # drops the entries that are back at 0

    async def report_locked(self, origin: Origin, speaker_id: str, count: FailureCount) -> None:
        """Log, count, audit and publish that a failure has locked the speaker."""
        if count.disabled:
            log.warning(
                "a speaker is disabled after %d failed verifications: `sayso speakers unlock` "
                "enables it again",
                count.total,
            )
        else:
            wait_s = count.locked_until - count.failed_at
            log.warning(
                "a speaker is locked for %.0f s after %d failed verifications in a row",
                wait_s,
                count.consecutive,
            )
        self._observe("disabled" if count.disabled else "locked")
        detail = {
            "in_a_row": count.consecutive,
            "in_all": count.total,
            "disabled": int(count.disabled),
        }
        await self.auditor.record_lock(speaker_id, origin, **detail)
        locked = Event(
            EventType.SPEAKER_LOCKED,
            speaker_id,
            origin.request_id,
            locked_until=None if count.disabled else count.locked_until,
        )
        await self._publish(origin.tenant, locked)

    async def report_refused(self, origin: Origin, speaker_id: str) -> None:
        """Count and audit an attempt on a locked speaker."""
        self._observe("refused")
        await self.auditor.record_refusal(Action.VERIFY, _LOCKED, speaker_id, origin)


class VerificationAttempt:
    """The claim of one call (ISO/IEC 19795), counted once however it ends.

    A caller who hangs up after an answer below the server's threshold has failed; otherwise an
    attacker could climb on scores without ever being locked out.

    Entering reads the claimed `speakers`, by their ids. Of several, those who are `locked` are left
    out. Raises `SpeakerLocked` if all are, and `Unavailable` if the store cannot tell.
    """

    def __init__(
        self, attempts: VerificationAttempts, origin: Origin, speaker_ids: Sequence[str]
    ) -> None:
        self.speakers: dict[str, Speaker | None] = {}
        self.locked: frozenset[str] = frozenset()
        self._attempts = attempts
        self._lockout = attempts.lockout
        self._origin = origin
        self._speaker_ids = tuple(speaker_ids)
        self._last_answer: Decision | None = None
        self._met: bool | None = (
            None  # whether the last answer that compared anything met the policy
        )
        self._failing: tuple[str, ...] = ()
        self._counted: dict[str, FailureCount | None] = {}  # with the count if it locked the voice
        self._settled = False

    async def __aenter__(self) -> Self:
        read = await asyncio.gather(*map(self._read, self._speaker_ids))
        refusals = {
            speaker_id: result
            for speaker_id, result in zip(self._speaker_ids, read, strict=True)
            if isinstance(result, SpeakerLocked)
        }
        await self._report_refused(refusals)
        self._raise_if_all(refusals, self._speaker_ids)
        self.locked = frozenset(refusals)
        self.speakers = {
            speaker_id: result
            for speaker_id, result in zip(self._speaker_ids, read, strict=True)
            if not isinstance(result, SpeakerLocked)
        }
        self._attempts.enter()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            await self.abandon(by_server=self._attempts.ended_by_server(error))
        finally:
            self._set_failing(())
            self._attempts.leave()

    async def may_answer(self, decision: Decision) -> bool:
        """Whether an interim decision may be sent; to be awaited before sending it. Raises
        `SpeakerLocked` if all speakers that it compared are locked by now.

        False while the store is away, which does not end the call, and if some of several speakers
        are locked by now. False also if one would be locked had the other calls in progress ended
        already; otherwise an attacker could collect scores from many calls at once.
        """
        compared = self._list_compared(decision)
        try:
            failures_left = await self._check(compared)
        except Unavailable as error:
            log.debug("an answer is kept back: %s", error)
            return False
        met = decision.meets_server_policy
        if len(failures_left) < len(compared):
            return False
        if met is False and not self._failing and self._would_lock(failures_left):
            return False
        self._last_answer = decision
        if met is not None:
            self._met = met
            self._set_failing(() if met else compared)
        return True

    async def settle(self, decision: Decision, **detail: str | int) -> None:
        """Count and audit the final decision; to be awaited before it is sent or acted upon.

        Raises `SpeakerLocked`, and `Unavailable` if it cannot be counted or audited.
        """
        met = decision.meets_server_policy
        if met is None and self._met is False:
            met = False  # an end that cannot be judged does not undo a failure
        await self._count(decision, met)
        self._settled = True  # only now: a call that is cancelled earlier still has to be counted
        await self._audit(decision, **detail)
        await self._report_locked()

    async def abandon(self, *, by_server: bool = False) -> None:
        """Count and audit an attempt that was not settled; raises nothing."""
        answered = self._last_answer
        if self._settled or answered is None:
            return
        self._settled = True
        failed = self._met is False and not by_server
        detail = {"interrupted" if by_server else "abandoned": 1}
        try:
            if failed:
                await self._count(answered, met=False)
            await self._audit(answered, **detail)
            await self._report_locked()
        except SpeakerLocked:
            pass  # other calls locked it, and that is audited
        except SaysoError as error:
            log.error("an abandoned verification was not counted: %s", error)

    async def _read(self, speaker_id: str) -> Speaker | SpeakerLocked | None:
        try:
            return await self._lockout.read(self._origin.tenant, speaker_id)
        except SpeakerLocked as error:
            return error

    def _list_compared(self, decision: Decision) -> tuple[str, ...]:
        """List the speakers whom the decision is a guess at."""
        if len(self._speaker_ids) <= 1:
            return self._speaker_ids
        return tuple(
            speaker.speaker_id
            for speaker in decision.claimed
            if speaker.status is ClaimStatus.COMPARED
        )

    def _would_lock(self, failures_left: dict[str, float]) -> bool:
        """Whether the failures of the other calls in progress, were they to end now, would lock one
        of the speakers."""
        return any(
            self._attempts.count_failing(self._origin.tenant, speaker_id) >= left
            for speaker_id, left in failures_left.items()
        )

    def _set_failing(self, speaker_ids: tuple[str, ...]) -> None:
        for speaker_id in set(self._failing) - set(speaker_ids):
            self._attempts.change_failing(self._origin.tenant, speaker_id, -1)
        for speaker_id in set(speaker_ids) - set(self._failing):
            self._attempts.change_failing(self._origin.tenant, speaker_id, 1)
        self._failing = speaker_ids

    async def _check(self, speaker_ids: Sequence[str]) -> dict[str, float]:
        """Return how many more failures lock each speaker who is not locked yet."""
        refusals: dict[str, SpeakerLocked] = {}
        failures_left: dict[str, float] = {}
        for speaker_id in speaker_ids:
            try:
                left = await self._lockout.check(self._origin.tenant, speaker_id)
                failures_left[speaker_id] = left
            except SpeakerLocked as error:
                refusals[speaker_id] = error
        await self._refuse_if_all(refusals, speaker_ids)
        return failures_left

    async def _count(self, decision: Decision, met: bool | None) -> None:
        """Count a pass of the likeliest speaker, or a failure of each who was compared. Those who
        were counted before an `Unavailable` are not counted again."""
        compared = self._list_compared(decision)
        if met and len(self._speaker_ids) > 1:
            compared = (decision.likeliest,)
        refusals: dict[str, SpeakerLocked] = {}
        for speaker_id in compared:
            if speaker_id in self._counted:
                continue
            try:
                count = await self._lockout.note(self._origin.tenant, speaker_id, met)
                self._counted[speaker_id] = count
            except SpeakerLocked as error:
                refusals[speaker_id] = error
        await self._refuse_if_all(refusals, compared)

    async def _refuse_if_all(
        self, refusals: dict[str, SpeakerLocked], speaker_ids: Sequence[str]
    ) -> None:
        """End the attempt if all these speakers are locked."""
        if refusals and len(refusals) == len(speaker_ids):
            self._settled = True
            await self._report_refused(refusals)
            self._raise_if_all(refusals, speaker_ids)

    def _raise_if_all(self, refusals: dict[str, SpeakerLocked], speaker_ids: Sequence[str]) -> None:
        """Raise the refusal that ends first if all these speakers are locked."""
        if refusals and len(refusals) == len(speaker_ids):
            raise min(
                refusals.values(),
                key=lambda error: math.inf if error.retry_after_s is None else error.retry_after_s,
            )

    async def _report_refused(self, speaker_ids: Iterable[str]) -> None:
        for speaker_id in speaker_ids:
            await self._attempts.report_refused(self._origin, speaker_id)

    async def _report_locked(self) -> None:
        for speaker_id, count in self._counted.items():
            if count is not None:
                await self._attempts.report_locked(self._origin, speaker_id, count)

    async def _audit(self, decision: Decision, **detail: str | int) -> None:
        """Write the decision; if several are claimed, for each of them, so that it can be found
        under each. Those who are locked were entered as refused."""
        record = self._attempts.auditor.record_decision
        if len(self._speaker_ids) <= 1:
            subject = "".join(self._speaker_ids)
            await record(Action.VERIFY, decision, subject, origin=self._origin, **detail)
            return
        for speaker in decision.claimed:
            if speaker.status is ClaimStatus.LOCKED:
                continue
            own = decision
            if speaker.status is not ClaimStatus.COMPARED:
                own = Decision(Outcome[speaker.status.name], decision.model_id, "")
                own = replace(own, stamp=decision.stamp)
            facts = {"claimed": len(decision.claimed), **detail}
            if speaker.speaker_id == decision.matched:
                facts["matched"] = 1
            await record(Action.VERIFY, own, speaker.speaker_id, origin=self._origin, **facts)
