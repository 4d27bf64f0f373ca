"""How many verifications of a speaker failed lately, and whether that has locked it.

    failed ─ ... ─ failed ──the limit──> locked ──failed──> locked for twice as long ─> ...
       └──────────── accepted, unlocked or quiet for long enough: forgotten ────────────┘

The limit and the doubling delay follow NIST SP 800-63B (2017), 5.2.2 and 5.2.3.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class LockRule:
    """After `failures` (0: never) within `window_s` a speaker is locked for `lock_s`; every failure
    after that locks it for twice as long as the last, at most for `longest_s`."""

    failures: int
    window_s: float
    lock_s: float
    longest_s: float

    @property
    def memory_s(self) -> float:
        """For how long after a failure, or the end of a lock, either is remembered."""
        return max(self.window_s, self.longest_s)


@dataclass(frozen=True, slots=True)
class Tally:
    """What is remembered of one speaker's failures. Times are seconds since the epoch, UTC.

    `failed_at` counts towards the first lock; `locks` have followed each other since.
    """

    failed_at: tuple[float, ...] = ()
    locked_until: float = 0.0
    locks: int = 0

    def failed(self, at: float, rule: LockRule) -> "Tally":
        """With one more failure at `at`."""
        recent = (*(each for each in self.failed_at if each > at - rule.window_s), at)
        locks = self.locks if at < self.locked_until + rule.memory_s else 0
        if not locks and len(recent) < rule.failures:
            return Tally(recent)
        lock_s = min(rule.lock_s * 2.0 ** min(locks, 64), rule.longest_s)
        return Tally((), at + lock_s, locks + 1)

    def locked(self, at: float) -> bool:
        return at < self.locked_until

    def encode(self) -> bytes:
        return json.dumps([self.failed_at, self.locked_until, self.locks]).encode()

    @classmethod
    def decode(cls, record: bytes | None) -> Self:
        """Inverse of `encode`; of None, where there is no record, a tally without failures."""
        if record is None:
            return cls()
        failed_at, locked_until, locks = json.loads(record)
        return cls(tuple(failed_at), locked_until, locks)


NO_FAILURES = Tally()

Step = Callable[[Tally], Tally]


class Failures(Protocol):
    """Tallies by tenant and speaker; no call sees another tenant's. Raises as `Store` does.

    A speaker that is deleted takes its tally along, and one that there is not has none.
    """

    async def get(self, tenant: str, speaker_id: str) -> Tally: ...

    async def change(
        self, tenant: str, speaker_id: str, step: Step, *, at: float, keep_s: float
    ) -> Tally:
        """The tally after `step`, which may be called several times, as one change among those of
        all servers; forgotten `keep_s` after `at`, or after its lock where that ends later.

        What `step` raises leaves the tally as it was.
        """
        ...


def keep_until(tally: Tally, at: float, keep_s: float) -> float:
    return max(at, tally.locked_until) + keep_s
