"""Deliveries from the outbox to one endpoint."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from gateway import metrics
from gateway.webhooks.endpoints import Endpoint
from gateway.webhooks.outbox import Delivery, OutboxThread
from gateway.webhooks.schedule import THROTTLED, find_delay
from gateway.webhooks.sender import CONCURRENT, Answer, Sender

log = logging.getLogger(__name__)

_GONE = 410
_POLL_S = 1.0
"""How soon it notices what the command line changed, and that a delivery is due again."""

_PAUSE_S = 5.0
"""How long an endpoint that asks for fewer requests has none, unless it says for how long."""


class Deliverer:
    """Posts what is due, several at once, and notes what came of it."""

    def __init__(
        self,
        endpoint: Endpoint,
        outbox: OutboxThread,
        sender: Sender,
        *,
        clock: Callable[[], float],
        random_source: random.Random,
    ) -> None:
        self._endpoint = endpoint
        self._outbox = outbox
        self._sender = sender
        self._clock = clock
        self._random = random_source
        self._news = asyncio.Event()
        self._stopping = False
        self._paused_until = 0.0
        self._in_flight: set[int] = set()

    def wake(self) -> None:
        """Look for deliveries at once."""
        self._news.set()

    def stop(self) -> None:
        """Begin no more attempts; `run` ends after those in flight."""
        self._stopping = True
        self._news.set()

    async def run(self) -> None:
        """Deliver until `stop`."""
        self._in_flight.clear()
        slots = asyncio.Semaphore(CONCURRENT)
        async with asyncio.TaskGroup() as attempts:
            while True:
                await slots.acquire()
                if (delivery := await self._wait_for_next()) is None:
                    return
                self._in_flight.add(delivery.number)
                attempt = attempts.create_task(self._attempt(delivery))
                attempt.add_done_callback(lambda _: slots.release())

    async def _wait_for_next(self) -> Delivery | None:
        while not self._stopping:
            self._news.clear()
            if (delivery := await self._find_next()) is not None:
                return delivery
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._news.wait()
        return None

    async def _find_next(self) -> Delivery | None:
        now, name = self._clock(), self._endpoint.name
        if now < self._paused_until or await self._outbox.ask(lambda outbox: outbox.is_gone(name)):
            return None
        limit = len(self._in_flight) + 1
        due = await self._outbox.ask(lambda outbox: outbox.find_due(name, now=now, limit=limit))
        return next((each for each in due if each.number not in self._in_flight), None)

    async def _attempt(self, delivery: Delivery) -> None:
        answer = await self._sender.post(delivery.event_id, delivery.body)
        if answer.ok:
            await self._outbox.ask(lambda outbox: outbox.complete(delivery))
            self._count("delivered")
            lag_s = max(self._clock() - delivery.created, 0.0)
            metrics.WEBHOOK_LAG_S.labels(self._endpoint.name).observe(lag_s)
            log.debug("webhook %s: delivered %s", self._endpoint.name, delivery.event_id)
        elif answer.status == _GONE:
            await self._disable()
        else:
            await self._try_later(delivery, answer)
        self._in_flight.discard(delivery.number)

    def _count(self, result: str) -> None:
        metrics.WEBHOOK_ATTEMPTS.labels(self._endpoint.name, result).inc()

    async def _disable(self) -> None:
        self._count("gone")
        name, url = self._endpoint.name, self._endpoint.url
        log.error("webhook %s: the endpoint is gone (HTTP 410), nothing is sent any more", name)
        now = self._clock()
        await self._outbox.ask(lambda outbox: outbox.mark_gone(name, url, now=now))

    async def _try_later(self, delivery: Delivery, answer: Answer) -> None:
        now, error = self._clock(), answer.explanation
        if answer.status in THROTTLED:
            self._paused_until = now + max(answer.retry_after_s, _PAUSE_S)
        delay_s = find_delay(delivery.attempts + 1, random_source=self._random)
        if delay_s is None:
            await self._outbox.ask(lambda outbox: outbox.fail(delivery, error=error, now=now))
            again = False
        else:
            until = now + max(delay_s, answer.retry_after_s)
            again = await self._outbox.ask(
                lambda outbox: outbox.postpone(delivery, until=until, error=error, now=now)
            )
        self._count("postponed" if again else "failed")
        log.warning(
            "webhook %s: %s %s not delivered: %s; %s",
            self._endpoint.name,
            delivery.type,
            delivery.event_id,
            error,
            "will be tried again" if again else "given up",
        )
