"""Lockout: too many failed verifications of a speaker lock it for a while, and in the end for good.

    below the server's threshold ──> a failure, which may lock or disable the speaker
    meets the server's policy ─────> the count of failures in a row starts again from 0

Only claims count: a caller who is identified, or who claims nobody, does not guess at one speaker.
If the store cannot tell whether a speaker is locked, the answer is Unavailable, never a pass.
"""

import math
import time
from collections.abc import Callable

from service.errors import SpeakerLocked
from service.store import FailureCount, LockRule, Speaker, Store
from service.store.failures import NO_FAILURES


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
