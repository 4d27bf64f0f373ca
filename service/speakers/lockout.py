"""Lockout: too many failed verifications of a speaker lock it for a while, and in the end for good.

    open ── locked ──> SpeakerLocked
      └─ may_answer ... may_answer ─ settle ──> count, audit, then answer
            │                          └─ locked meanwhile ──> SpeakerLocked, as at `may_answer`
            └─ no settle ──> a failure if the last answer was below the server's threshold,
                             unless the server itself ended the call

    below the server's threshold ──> a failure, which may lock or disable the speaker
    meets the server's policy ─────> the count of failures in a row starts again from 0

Only claims count: a caller who is identified, or who claims nobody, does not guess at one speaker.
If the store cannot tell whether a speaker is locked, the answer is Unavailable, never a pass.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

from service.audit import Action, Auditor, Origin
from service.decisions.decision import Decision
from service.errors import OverLimit, Overloaded, SaysoError, SpeakerLocked, Unavailable
from service.store import FailureCount, LockRule, Speaker, Store
from service.store.failures import NO_FAILURES

_LOCKED = "LOCKED"
_CONCLUDE_S = 5.0

log = logging.getLogger(__name__)

Observe = Callable[[str], None]
"""Called with `locked` or `disabled` for a speaker, and with `refused` for an attempt."""


class Lockout:
    """Applies `rule` to the failure counts, which all servers on a store share; `clock` is in
    seconds since the epoch."""

    def __init__(
        self, store: Store, rule: LockRule, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._rule = rule
        self._clock = clock

    async def count(self, tenant: str, speaker_id: str) -> FailureCount:
        """The failures of a speaker so far."""
        return await self._store.failures.get(tenant, speaker_id)

    async def is_locked(self, tenant: str, speaker_id: str) -> bool:
        """Whether the speaker is locked; raises `Unavailable` while the store is away."""
        if not self._rule.failures:
            return False
        return (await self.count(tenant, speaker_id)).is_locked(self._clock())

    async def read(self, tenant: str, speaker_id: str) -> Speaker | None:
        """Read the speaker together with its failures; raises as `check`."""
        if not self._rule.failures:
            return await self._store.get(tenant, speaker_id)
        speaker, count = await self._store.get_with_failures(tenant, speaker_id)
        self._refuse_locked(count)
        return speaker

    async def check(self, tenant: str, speaker_id: str) -> float:
        """How many more failures lock the speaker, infinity if locking is off.

        Raises `SpeakerLocked` while it is locked, and `Unavailable` while the store is away.
        """
        if not self._rule.failures:
            return math.inf
        count = await self.count(tenant, speaker_id)
        self._refuse_locked(count)
        return max(1, self._rule.failures - count.consecutive)

    async def note(self, tenant: str, speaker_id: str, met: bool | None) -> FailureCount | None:
        """Count a claim, before its decision is sent; return the count if it locked the speaker.

        `met` says whether the claim met the server's own policy, None that it neither met it nor
        failed. Raises as `check`, and has then changed nothing.
        """
        if not self._rule.failures:
            return None
        failures = self._store.failures
        if met is False:
            count = await failures.change(tenant, speaker_id, self._add_failure)
            return count if count.is_locked(self._clock()) else None
        count = await self.count(tenant, speaker_id)
        self._refuse_locked(count)
        if met and count != count.add_pass():
            await failures.change(tenant, speaker_id, self._add_pass)
        return None

    async def unlock(self, tenant: str, speaker_id: str) -> None:
        """Forget the failures of a speaker, known or not."""
        await self._store.failures.change(tenant, speaker_id, lambda count: NO_FAILURES)

    def _add_failure(self, count: FailureCount) -> FailureCount:
        self._refuse_locked(count)
        return count.add_failure(self._clock(), self._rule)

    def _add_pass(self, count: FailureCount) -> FailureCount:
        self._refuse_locked(count)
        return count.add_pass()

    def _refuse_locked(self, count: FailureCount) -> None:
        now = self._clock()
        if count.disabled:
            raise SpeakerLocked(None)
        if count.is_locked(now):
            raise SpeakerLocked(count.locked_until - now)


class VerificationAttempts:
    """The attempts in progress on one server."""

    def __init__(
        self, lockout: Lockout, auditor: Auditor, *, observe: Observe = lambda event: None
    ) -> None:
        self.lockout = lockout
        self.auditor = auditor
        self._observe = observe
        self._draining = False
        self._open = 0
        self._failing = Counter[tuple[str, str]]()
        self._none_open = asyncio.Event()
        self._none_open.set()

    def open(self, speaker_id: str) -> "VerificationAttempt":
        """Make an attempt for the call in progress, to be entered by `async with`. An empty
        `speaker_id` claims nobody, so that nobody can be locked."""
        return VerificationAttempt(self, self.auditor.origin(), speaker_id)

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
        """Log, count and audit that a failure has locked the speaker."""
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

    async def report_refused(self, origin: Origin, speaker_id: str) -> None:
        """Count and audit an attempt on a locked speaker."""
        self._observe("refused")
        await self.auditor.record_refusal(Action.VERIFY, _LOCKED, speaker_id, origin)


class VerificationAttempt:
    """The claim of one call (ISO/IEC 19795), counted once however it ends.

    A caller who hangs up after an answer below the server's threshold has failed; otherwise an
    attacker could climb on scores without ever being locked out.

    Entering reads the claimed `speaker`. It raises `SpeakerLocked`, or `Unavailable` if the store
    cannot tell whether the speaker is locked.
    """

    def __init__(self, attempts: VerificationAttempts, origin: Origin, speaker_id: str) -> None:
        self.speaker: Speaker | None = None
        self._attempts = attempts
        self._lockout = attempts.lockout
        self._origin = origin
        self._speaker_id = speaker_id
        self._last_answer: Decision | None = None
        self._met: bool | None = (
            None  # whether the last answer that compared anything met the policy
        )
        self._failing = False
        self._settled = False

    async def __aenter__(self) -> Self:
        if self._speaker_id:
            try:
                self.speaker = await self._lockout.read(self._origin.tenant, self._speaker_id)
            except SpeakerLocked:
                await self._report_refused()
                raise
        self._attempts.enter()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            await self.abandon(by_server=self._attempts.ended_by_server(error))
        finally:
            self._set_failing(False)
            self._attempts.leave()

    async def may_answer(self, decision: Decision) -> bool:
        """Whether an interim decision may be sent; to be awaited before sending it. Raises
        `SpeakerLocked` if the speaker is locked by now.

        False while the store is away, which does not end the call. False also if the speaker would
        be locked had the other calls in progress ended already; otherwise an attacker could collect
        scores from many calls at once.
        """
        try:
            failures_left = await self._check()
        except Unavailable as error:
            log.debug("an answer is kept back: %s", error)
            return False
        met, tenant = decision.meets_server_policy, self._origin.tenant
        others = self._attempts.count_failing(tenant, self._speaker_id) - self._failing
        if met is False and not self._failing and others >= failures_left:
            return False
        self._last_answer = decision
        if met is not None:
            self._met = met
            self._set_failing(not met)
        return True

    async def settle(self, decision: Decision, **detail: str | int) -> None:
        """Count and audit the final decision; to be awaited before it is sent or acted upon.

        Raises `SpeakerLocked`, and `Unavailable` if it cannot be counted or audited.
        """
        met = decision.meets_server_policy
        if met is None and self._met is False:
            met = False  # an end that cannot be judged does not undo a failure
        count = await self._note(met)
        self._settled = True  # only now: a call that is cancelled earlier still has to be counted
        await self._audit(decision, **detail)
        if count is not None:
            await self._attempts.report_locked(self._origin, self._speaker_id, count)

    async def abandon(self, *, by_server: bool = False) -> None:
        """Count and audit an attempt that was not settled; raises nothing."""
        answered = self._last_answer
        if self._settled or answered is None:
            return
        self._settled = True
        failed = self._met is False and not by_server
        detail = {"interrupted" if by_server else "abandoned": 1}
        try:
            count = await self._note(False) if failed else None
            await self._audit(answered, **detail)
            if count is not None:
                await self._attempts.report_locked(self._origin, self._speaker_id, count)
        except SpeakerLocked:
            pass  # other calls locked it, and that is audited
        except SaysoError as error:
            log.error("an abandoned verification was not counted: %s", error)

    def _set_failing(self, failing: bool) -> None:
        if failing != self._failing:
            change = 1 if failing else -1
            self._attempts.change_failing(self._origin.tenant, self._speaker_id, change)
        self._failing = failing

    async def _check(self) -> float:
        if not self._speaker_id:
            return math.inf
        try:
            return await self._lockout.check(self._origin.tenant, self._speaker_id)
        except SpeakerLocked:
            await self._report_refused()
            raise

    async def _note(self, met: bool | None) -> FailureCount | None:
        if not self._speaker_id:
            return None
        try:
            return await self._lockout.note(self._origin.tenant, self._speaker_id, met)
        except SpeakerLocked:
            await self._report_refused()
            raise

    async def _report_refused(self) -> None:
        self._settled = True
        await self._attempts.report_refused(self._origin, self._speaker_id)

    async def _audit(self, decision: Decision, **detail: str | int) -> None:
        await self._attempts.auditor.record_decision(
            Action.VERIFY, decision, self._speaker_id, origin=self._origin, **detail
        )
