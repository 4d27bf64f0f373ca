"""Events of a tenant, numbered from 1, kept until there are too many or they are too old.

append ──> 1, 2, 3 ... n ──> read(after=2) ──> 3 ... n
           └── too many, or too old: gone; a reader sees the gap in the numbers
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.errors import FailedPrecondition
from service.store.records import RecordError
from service.store.sealed import RecordCodec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it was appended; `at` is in seconds since the epoch, UTC."""

    number: int
    at: float
    record: bytes


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in the order of their numbers, and the number of the tenant's `last` event, 0 before
    the first. Those up to `read_to` need not be asked for again: an event that cannot be opened is
    left out."""

    events: tuple[StoredEvent, ...]
    read_to: int
    last: int


@dataclass(frozen=True, slots=True)
class Horizon:
    """What is kept: at most `most` events of a tenant, none from before `oldest_at`."""

    most: int
    oldest_at: float


class Events(Protocol):
    """Events by tenant; no call sees another tenant's. Raises as `Store` does."""

    async def append(
        self, tenant: str, records: Sequence[bytes], *, at: float, horizon: Horizon
    ) -> None:
        """Append events durably, all or none, and remove what is beyond the horizon. `at` is now.
        After an Unavailable they may be there nevertheless, so that a second try stores them twice.
        """
        ...

    async def read(self, tenant: str, *, after: int, limit: int) -> EventPage:
        """Read up to `limit` events with numbers above `after`."""
        ...


async def seal_events(
    codec: RecordCodec, tenant: str, records: Sequence[bytes], *, at: float
) -> list[bytes]:
    """Seal what a store is to append, if it seals voices."""
    return [await codec.seal_event(tenant, at, record) for record in records]


async def open_page(
    codec: RecordCodec, tenant: str, stored: Sequence[StoredEvent], *, last: int
) -> EventPage:
    """Make a page of what a store read, without the events whose key is gone."""
    events = []
    for event in stored:
        try:
            record = await codec.open_event(tenant, event.at, event.record)
        except (RecordError, FailedPrecondition) as error:
            log.warning("an event of tenant %s is left out: %s", tenant, error)
        else:
            events.append(StoredEvent(event.number, event.at, record))
    return EventPage(tuple(events), stored[-1].number if stored else last, last)
