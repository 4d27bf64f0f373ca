"""Events of the tenant, from the server to the outbox."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc
from sayso.v1 import event_pb2
from sayso.v1.event_pb2_grpc import EventServiceStub

from gateway.webhooks.body import encode, name_type
from gateway.webhooks.endpoints import Webhooks
from gateway.webhooks.outbox import NewEvent, OutboxThread

log = logging.getLogger(__name__)

_AGAIN_S = 1.0
_REFUSED_AGAIN_S = 15.0

Metadata = tuple[tuple[str, str], ...]


class Follower:
    """Watches the events from the token in the outbox on; without one, from now on. `wake` is
    called when deliveries were added."""

    def __init__(
        self,
        channel: Any,
        metadata: Metadata,
        webhooks: Webhooks,
        outbox: OutboxThread,
        *,
        clock: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._stub: Any = EventServiceStub(channel)
        self._metadata = metadata
        self._webhooks = webhooks
        self._outbox = outbox
        self._clock = clock
        self._wake = wake

    async def run(self) -> None:
        """Follow for ever, over any number of connections."""
        while True:
            try:
                await self._follow()
            except grpc.aio.AioRpcError as error:
                temporary = error.code() is grpc.StatusCode.UNAVAILABLE
                level = logging.WARNING if temporary else logging.ERROR
                log.log(level, "webhooks: events cannot be followed: %s", error.details())
                await asyncio.sleep(_AGAIN_S if temporary else _REFUSED_AGAIN_S)
            else:
                await asyncio.sleep(_AGAIN_S)

    async def _follow(self) -> None:
        token = await self._outbox.ask(lambda outbox: outbox.get_token())
        request = event_pb2.WatchEventsRequest(resume_token=token or "")
        call = self._stub.WatchEvents(request, metadata=self._metadata)
        following = False
        try:
            async for response in call:
                await self._take(response)
                if not following:
                    following = True
                    log.info("webhooks: following events")
        finally:
            call.cancel()

    async def _take(self, response: event_pb2.WatchEventsResponse) -> None:
        if response.lost_events:
            log.error("webhooks: %d events are gone from the server", response.lost_events)
        event = self._read(response.event) if response.HasField("event") else None
        names = [] if event is None else self._find_endpoints(event.type)
        dropped = await self._outbox.ask(
            lambda outbox: outbox.add(response.resume_token, event, names, now=self._clock())
        )
        if dropped:
            log.error("webhooks: %d events are given up, as too many wait", dropped)
        if names:
            self._wake()

    def _read(self, event: event_pb2.Event) -> NewEvent | None:
        kind = name_type(event)
        if kind is None:
            log.warning("webhooks: event %s is of a type unknown here", event.event_id)
            return None
        body = encode(event, kind, self._webhooks.source)
        return NewEvent(event.event_id, kind, event.request_id, body)

    def _find_endpoints(self, kind: str) -> list[str]:
        endpoints = self._webhooks.endpoints.values()
        return [each.name for each in endpoints if kind in each.types and not each.disabled]
