"""Lockout: too many failed verifications of one speaker stop its verification, at last for good.

    check ── locked ──> SpeakerLocked           before any audio is heard, and before each answer
      └─ note ── failed ──> counted, may lock or disable
              ├─ met the server's own policy ──> counted from nought again
              └─ locked meanwhile by other calls ──> SpeakerLocked instead of the decision

Only a claim counts: who is identified, or claims nobody, guesses at no one speaker. What the store
cannot say is Unavailable, never a pass.
"""

import math
import time
from collections.abc import Callable

from service.errors import SpeakerLocked
from service.store.failures import NO_FAILURES, Failures, LockRule, Tally


class Lockout:
    """What `rule` asks of the tallies that all servers share; `clock` is in seconds since the
    epoch."""

    def __init__(
        self, failures: Failures, rule: LockRule, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._failures = failures
        self._rule = rule
        self._clock = clock

    async def tally(self, tenant: str, speaker_id: str) -> Tally:
        """What is remembered of a speaker's failures."""
        return await self._failures.get(tenant, speaker_id)

    async def locked(self, tenant: str, speaker_id: str) -> bool:
        """Whether the speaker is locked; raises `Unavailable` while nobody can know."""
        if not self._rule.failures:
            return False
        return (await self.tally(tenant, speaker_id)).locked(self._clock())

    async def check(self, tenant: str, speaker_id: str) -> float:
        """How many more failures lock the speaker, infinity if none do; raises `SpeakerLocked`
        while it is locked, `Unavailable` while nobody can know."""
        if not self._rule.failures:
            return math.inf
        tally = await self.tally(tenant, speaker_id)
        self._refuse_locked(tally)
        return max(1, self._rule.failures - tally.consecutive)

    async def note(self, tenant: str, speaker_id: str, met: bool | None) -> Tally | None:
        """Counts a claim before anybody is told: `met` says whether it met the server's own policy,
        None that it neither did nor failed. Returns the tally if this failure locked the speaker.

        Raises as `check`, and has then changed nothing.
        """
        if not self._rule.failures:
            return None
        if met is False:
            tally = await self._failures.change(tenant, speaker_id, self._failed)
            return tally if tally.locked(self._clock()) else None
        tally = await self.tally(tenant, speaker_id)
        self._refuse_locked(tally)
        if met and tally != tally.passed():
            await self._failures.change(tenant, speaker_id, self._passed)
        return None

    async def unlock(self, tenant: str, speaker_id: str) -> None:
        """Forgets the failures of a speaker, known or not."""
        await self._failures.change(tenant, speaker_id, lambda tally: NO_FAILURES)

    def _failed(self, tally: Tally) -> Tally:
        self._refuse_locked(tally)
        return tally.failed(self._clock(), self._rule)

    def _passed(self, tally: Tally) -> Tally:
        self._refuse_locked(tally)
        return tally.passed()

    def _refuse_locked(self, tally: Tally) -> None:
        now = self._clock()
        if tally.disabled:
            raise SpeakerLocked(None)
        if tally.locked(now):
            raise SpeakerLocked(tally.locked_until - now)
