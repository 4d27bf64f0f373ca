"""Lockout: too many failed verifications of one speaker stop its verification for a while.

    check ── locked ──> Overloaded, until when         before any audio is heard
      └─ note(decision) ── REJECTED ──> counted, may lock
                        ├─ ACCEPTED ──> forgotten
                        └─ locked meanwhile by other calls ──> Overloaded instead of the decision

Only a claim counts: who is identified, or claims nobody, guesses at no one speaker. What the store
cannot say is Unavailable, never a pass.
"""

import time
from collections.abc import Callable

from service.decision import Outcome
from service.errors import Overloaded
from service.store.failures import NO_FAILURES, Failures, LockRule, Tally


class Locked(Overloaded):
    """Says for how long, and nothing of whom, how often or how closely it failed."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            f"too many verifications of this speaker failed; try again in {retry_after_s:.0f} s, "
            "or have an administrator unlock it",
            retry_after_s=retry_after_s,
        )


class Lockout:
    """What `rule` asks of the tallies that all servers share; `clock` is in seconds since the
    epoch."""

    def __init__(
        self, failures: Failures, rule: LockRule, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._failures = failures
        self._rule = rule
        self._clock = clock

    async def check(self, tenant: str, speaker_id: str) -> None:
        """Raises `Locked` while the speaker is, `Unavailable` while nobody can know."""
        if self._rule.failures:
            self._refuse_locked(await self._failures.get(tenant, speaker_id))

    async def note(self, tenant: str, speaker_id: str, outcome: Outcome) -> bool:
        """Counts what a claim came to before anybody is told; whether that has locked the speaker.

        Raises as `check`, and has then changed nothing.
        """
        if not self._rule.failures:
            return False
        if outcome is Outcome.REJECTED:
            tally = await self._change(tenant, speaker_id, self._failed)
            return tally.locked(self._clock())
        tally = await self._failures.get(tenant, speaker_id)
        self._refuse_locked(tally)
        if outcome is Outcome.ACCEPTED and tally != NO_FAILURES:
            await self._change(tenant, speaker_id, self._passed)
        return False

    async def unlock(self, tenant: str, speaker_id: str) -> None:
        """Forgets the failures of a speaker, known or not."""
        await self._change(tenant, speaker_id, lambda tally: NO_FAILURES)

    async def _change(self, tenant: str, speaker_id: str, step: Callable[[Tally], Tally]) -> Tally:
        return await self._failures.change(
            tenant, speaker_id, step, at=self._clock(), keep_s=self._rule.memory_s
        )

    def _failed(self, tally: Tally) -> Tally:
        self._refuse_locked(tally)
        return tally.failed(self._clock(), self._rule)

    def _passed(self, tally: Tally) -> Tally:
        self._refuse_locked(tally)
        return NO_FAILURES

    def _refuse_locked(self, tally: Tally) -> None:
        now = self._clock()
        if tally.locked(now):
            raise Locked(tally.locked_until - now)
