"""How many verifications of a speaker failed, and whether that has locked it.

    failed ... failed ──the limit──> locked ──failed──> locked for twice as long ─> ... ─> disabled
       └─────── met the server's own policy: counted from nought again ──┘                    │
       └──────────────────────── unlocked by an operator: forgotten <─────────────────────────┘

Failures count whenever they come: a window in which they count together would allow an attacker
some guesses in every window for ever. Limit, growing wait and overall limit follow NIST SP 800-63B.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Self

from service.settings import LockRule

_FIRST_LIMIT = 5  # of the servers that wrote records before `total` was counted


@dataclass(frozen=True, slots=True)
class FailureCount:
    """The failed verifications of one speaker. Times are seconds since the epoch, UTC."""

    consecutive: int = 0
    total: int = 0
    locked_until: float = 0.0
    failed_at: float = 0.0
    disabled: bool = False

    def failed(self, at: float, rule: LockRule) -> "FailureCount":
        """With one more failure at `at`."""
        consecutive, total = self.consecutive + 1, self.total + 1
        locked_until, beyond = self.locked_until, consecutive - rule.failures
        if beyond >= 0:
            locked_until = at + min(rule.lock_s * 2.0 ** min(beyond, 64), rule.longest_s)
        disabled = self.disabled or 0 < rule.disable_after <= total
        return FailureCount(consecutive, total, locked_until, at, disabled)

    def passed(self) -> "FailureCount":
        """After an acceptance by the server's own policy."""
        return replace(self, consecutive=0, locked_until=0.0)

    def locked(self, at: float) -> bool:
        return self.disabled or at < self.locked_until

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, record: bytes | None) -> Self:
        """Inverse of `encode`; of None, where there is no record, a count of none."""
        if record is None:
            return cls()
        content = json.loads(record)
        return cls(**content) if isinstance(content, dict) else cls._of_earlier(content)

    @classmethod
    def _of_earlier(cls, content: list[Any]) -> Self:
        """From times in a window, end of the lock, and number of locks in a row."""
        times, locked_until, locks = content
        failures = len(times) + (_FIRST_LIMIT + locks - 1 if locks else 0)
        return cls(failures, failures, locked_until, max(times, default=0.0))


NO_FAILURES = FailureCount()

Step = Callable[[FailureCount], FailureCount]


class Failures(Protocol):
    """Counts by tenant and speaker; no call sees another tenant's. Raises as `Store` does.

    A count is kept until it is forgotten: nothing expires, and no store may evict it. A speaker
    that is deleted takes its count along, and one that does not exist has none.
    """

    async def get(self, tenant: str, speaker_id: str) -> FailureCount: ...

    async def change(self, tenant: str, speaker_id: str, step: Step) -> FailureCount:
        """The count after `step`, which may be called several times, as one change among those of
        all servers. What `step` raises leaves the count as it was.
        """
        ...
