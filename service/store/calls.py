"""Calls that were announced, until their audio comes or they expire.

announce ──> take, once ──> gone
    └─ expires_at passes ──> gone
"""

import json
from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class AnnouncedCall:
    """Who is claimed to be calling, and the named policy to decide by (empty: the server's own).
    `expires_at` is in seconds since the epoch, UTC."""

    call_id: str
    speaker_ids: tuple[str, ...]
    policy: str
    expires_at: float

    def encode(self) -> bytes:
        """Everything but the id, which stores use as a key."""
        document = {
            "speaker_ids": self.speaker_ids,
            "policy": self.policy,
            "expires_at": self.expires_at,
        }
        return json.dumps(document).encode()

    @classmethod
    def decode(cls, call_id: str, record: bytes) -> Self:
        """Inverse of `encode`."""
        fields = json.loads(record)
        return cls(call_id, tuple(fields["speaker_ids"]), fields["policy"], fields["expires_at"])


class Calls(Protocol):
    """Announced calls by tenant and id; no call sees another tenant's. Raises as `Store` does."""

    async def announce(self, tenant: str, call: AnnouncedCall, *, at: float) -> None:
        """Store a call until it expires; it replaces one of the same id. `at` is now."""
        ...

    async def take(self, tenant: str, call_id: str, *, at: float) -> AnnouncedCall | None:
        """Remove and return a call: of several takers one gets it. None if there is none, or if it
        has expired at `at`."""
        ...
