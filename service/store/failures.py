"""How many verifications of a speaker failed, and whether that locks the speaker.

    failure ... failure ──limit──> locked ──failure──> locked for twice as long ─> ... ─> disabled
       └── an accepted verification: `consecutive` starts again from 0 ──┘                   │
       └── an operator unlocks the speaker: all failures are forgotten <─────────────────────┘

Failures have no time window: with one, an attacker would have some guesses in every window for
ever. Limit, growing wait and overall limit follow NIST SP 800-63B.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Self

from service.settings import LockRule

_EARLIER_LIMIT = 5  # failures before a lock, when records had no `total` yet


@dataclass(frozen=True, slots=True)
class FailureCount:
    """The failed verifications of one speaker. Times are seconds since the epoch, UTC."""

    consecutive: int = 0
    total: int = 0
    locked_until: float = 0.0
    failed_at: float = 0.0
    disabled: bool = False

    def add_failure(self, at: float, rule: LockRule) -> "FailureCount":
        """Count a failure at `at`."""
        consecutive, total = self.consecutive + 1, self.total + 1
        locked_until, beyond = self.locked_until, consecutive - rule.failures
        if beyond >= 0:
            locked_until = at + min(rule.lock_s * 2.0 ** min(beyond, 64), rule.longest_s)
        disabled = self.disabled or 0 < rule.disable_after <= total
        return FailureCount(consecutive, total, locked_until, at, disabled)

    def add_pass(self) -> "FailureCount":
        """Count an acceptance by the server's own policy."""
        return replace(self, consecutive=0, locked_until=0.0)

    def is_locked(self, at: float) -> bool:
        return self.disabled or at < self.locked_until

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, record: bytes | None) -> Self:
        """Inverse of `encode`; None, for no record, is a count of 0."""
        if record is None:
            return cls()
        content = json.loads(record)
        return cls(**content) if isinstance(content, dict) else cls._decode_earlier(content)

    @classmethod
    def _decode_earlier(cls, content: list[Any]) -> Self:
        """Decode a record of times in a window, end of the lock, and number of locks in a row."""
        times, locked_until, locks = content
        failures = len(times) + (_EARLIER_LIMIT + locks - 1 if locks else 0)
        return cls(failures, failures, locked_until, max(times, default=0.0))


NO_FAILURES = FailureCount()

Step = Callable[[FailureCount], FailureCount]


class Failures(Protocol):
    """Counts by tenant and speaker; no call sees another tenant's. Raises as `Store` does.

    A count never expires, and no store may evict it. It is deleted with its speaker, and a speaker
    that does not exist has none.
    """

    async def get(self, tenant: str, speaker_id: str) -> FailureCount: ...

    async def change(self, tenant: str, speaker_id: str, step: Step) -> FailureCount:
        """Replace the count by what `step` makes of it, and return that; atomic among all servers.

        `step` may be called several times. If it raises, the count stays as it was.
        """
        ...
