"""Webhooks beside a gateway: one follower, and a deliverer for each endpoint."""

import asyncio
import contextlib
import logging
import operator
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from gateway import metrics
from gateway.settings import Settings
from gateway.webhooks.deliverer import Deliverer
from gateway.webhooks.endpoints import Endpoint, Webhooks, read_webhooks
from gateway.webhooks.follower import Follower
from gateway.webhooks.outbox import OutboxThread, hold_alone, open_outbox
from gateway.webhooks.sender import open_sender

log = logging.getLogger(__name__)

_COUNT_EVERY_S = 2.0
_RESTART_S = 5.0
_LEAVING_S = 5.0
"""How long attempts in flight may take at shutdown; those cut off are made again at the start."""


@contextlib.asynccontextmanager
async def open_webhooks(settings: Settings) -> AsyncIterator[None]:
    """Follow events and deliver them meanwhile, if that is on; raises `SettingsError`."""
    if settings.webhooks is None or settings.state is None:
        yield
        return
    webhooks = read_webhooks(settings.webhooks)
    with hold_alone(settings.state), open_outbox(settings.state, webhooks.max_pending) as outbox:
        outbox.retain({each.name: each.url for each in _get_enabled(webhooks)}, now=time.time())
        with OutboxThread(outbox) as thread:
            async with _deliver(settings, webhooks, thread):
                yield


@contextlib.asynccontextmanager
async def _deliver(
    settings: Settings, webhooks: Webhooks, outbox: OutboxThread
) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        deliverers = []
        for endpoint in _get_enabled(webhooks):
            sender = await stack.enter_async_context(open_sender(endpoint, time.time))
            deliverers.append(
                Deliverer(
                    endpoint,
                    outbox,
                    sender,
                    clock=time.time,
                    random_source=random.SystemRandom(),
                )
            )

        def wake() -> None:
            for deliverer in deliverers:
                deliverer.wake()

        channel, metadata = settings.open_channel()
        stack.push_async_callback(channel.close)
        follower = Follower(channel, metadata, webhooks, outbox, clock=time.time, wake=wake)
        following = asyncio.create_task(_keep_running(follower.run))
        counting = asyncio.create_task(_keep_running(lambda: _count_pending(webhooks, outbox)))
        delivering = [asyncio.create_task(_keep_running(each.run)) for each in deliverers]
        try:
            yield
        finally:
            for deliverer in deliverers:
                deliverer.stop()
            following.cancel()
            counting.cancel()
            if delivering:
                _, late = await asyncio.wait(delivering, timeout=_LEAVING_S)
                for task in late:
                    task.cancel()
            await asyncio.wait([following, counting, *delivering])


async def _keep_running(run: Callable[[], Awaitable[None]]) -> None:
    """Start it again if it fails, for instance because the disk of the outbox is full: calls go on
    meanwhile."""
    while True:
        try:
            return await run()
        except Exception:
            log.exception("webhooks: stopped, and started again in %g s", _RESTART_S)
        await asyncio.sleep(_RESTART_S)


async def _count_pending(webhooks: Webhooks, outbox: OutboxThread) -> None:
    while True:
        for name in (each.name for each in _get_enabled(webhooks)):
            backlog = await outbox.ask(operator.methodcaller("count", name))
            waited_s = 0.0 if backlog.oldest is None else max(time.time() - backlog.oldest, 0.0)
            metrics.WEBHOOK_PENDING.labels(name).set(backlog.pending)
            metrics.WEBHOOK_OLDEST_S.labels(name).set(waited_s)
        await asyncio.sleep(_COUNT_EVERY_S)


def _get_enabled(webhooks: Webhooks) -> list[Endpoint]:
    return [each for each in webhooks.endpoints.values() if not each.disabled]
