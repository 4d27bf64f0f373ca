"""An event, before it is encoded for a store."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from service.decisions.decision import Decision
from service.decisions.match import Match


class EventType(StrEnum):
    """What happened; the value is how webhooks and the command line spell it."""

    DECISION_REACHED = "decision.reached"
    DECISION_CHANGED = "decision.changed"
    WATCHLIST_MATCHED = "watchlist.matched"
    ENROLLMENT_COMPLETED = "enrollment.completed"
    SPEAKER_LOCKED = "speaker.locked"
    SPEAKER_EXPIRED = "speaker.expired"
    CALL_ENDED = "call.ended"


def _make_event_id() -> str:
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to `speaker_id`, or in the call of `request_id`.

    Events about calls have the `decision` as it stood, and the `matches` on watchlists. A speaker
    is locked until `locked_until`, in seconds since the epoch; None: until an operator unlocks it.
    """

    type: EventType
    speaker_id: str = ""
    request_id: str = ""
    decision: Decision | None = None
    matches: tuple[Match, ...] = ()
    locked_until: float | None = None
    event_id: str = field(default_factory=_make_event_id)


class Publish(Protocol):
    """Publishes events of a tenant; raises nothing if they cannot be stored."""

    async def __call__(self, tenant: str, *events: Event) -> None: ...


async def publish_nothing(tenant: str, *events: Event) -> None:
    """The `Publish` of what nobody watches."""


Encode = Callable[[Event, float], bytes]
"""Turns an event that happened at a time, in seconds since the epoch, into a stored record."""
