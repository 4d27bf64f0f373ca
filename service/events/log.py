"""The log of events: written by calls as they go, followed by watchers."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from service.errors import ErrorReason, FailedPrecondition, Unavailable
from service.events.event import Encode, Event
from service.settings import EventRules
from service.store import Events, Horizon, StoredEvent

POLL_S = 1.0
"""How soon a watcher is told what another server on the same store wrote."""

_PAGE = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class News:
    """Events since the last news, the number to go on from, and how many between them are gone."""

    events: tuple[StoredEvent, ...]
    read_to: int
    lost: int


class EventLog:
    """Publishes and follows events as `rules` say; `clock` is in seconds since the epoch, and
    `count_lost` is told how many events could not be stored."""

    def __init__(
        self,
        events: Events,
        rules: EventRules,
        encode: Encode,
        *,
        clock: Callable[[], float] = time.time,
        count_lost: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._events = events
        self._rules = rules
        self._encode = encode
        self._clock = clock
        self._count_lost = count_lost
        self._news: dict[str, asyncio.Event] = {}
        self._stopping = asyncio.Event()

    async def publish(self, tenant: str, *events: Event) -> None:
        """Store events of a tenant and wake its watchers; raises nothing if the store is away."""
        if not events or not self._rules.most:
            return
        at = self._clock()
        records = [self._encode(event, at) for event in events]
        horizon = Horizon(self._rules.most, at - self._rules.kept_s)
        try:
            await self._events.append(tenant, records, at=at, horizon=horizon)
        except Unavailable as error:
            self._count_lost(len(events))
            log.error("%d events are lost: %s", len(events), error)
        if (news := self._news.pop(tenant, None)) is not None:
            news.set()

    async def find_start(self, tenant: str, *, oldest: bool) -> int:
        """The number to follow from to be told of new events, or of the `oldest` kept, too. Raises
        `FailedPrecondition` if none are kept."""
        self._require_events()
        page = await self._events.read(tenant, after=0, limit=1)
        return page.events[0].number - 1 if oldest and page.events else page.last

    async def follow(self, tenant: str, *, after: int) -> AsyncIterator[News]:
        """Yield the events after a number as they come, and about every second in which none came
        news without any. Raises `Unavailable` while the store is away or once the server stops, and
        `FailedPrecondition` if no events are kept.

        Numbers above the last one are of a store that was since restored from a copy: everything
        in it is then news.
        """
        self._require_events()
        while True:
            news = self._news.setdefault(tenant, asyncio.Event())
            page = await self._events.read(tenant, after=after, limit=_PAGE)
            if after > page.last:
                after = 0
                continue
            lost = page.read_to - after - len(page.events)
            after = page.read_to
            yield News(page.events, after, max(0, lost))
            if after >= page.last:
                await self._wait(news)
            if self._stopping.is_set():
                raise Unavailable("the server is stopping: watch again, with the latest token")

    def stop(self) -> None:
        """End all watchers, so that a server that drains does not wait for them."""
        self._stopping.set()
        for news in self._news.values():
            news.set()

    async def _wait(self, news: asyncio.Event) -> None:
        if not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await news.wait()

    def _require_events(self) -> None:
        if not self._rules.most:
            raise FailedPrecondition(
                "this server keeps no events: set SAYSO_EVENTS_KEPT above 0",
                reason=ErrorReason.EVENTS_OFF,
            )
