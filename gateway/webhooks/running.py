"""Webhooks beside a gateway: one follower, and a deliverer for each endpoint; started anew when
their file changes."""

import asyncio
import contextlib
import logging
import operator
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from sayso import SettingsError

from gateway import metrics
from gateway.settings import Settings
from gateway.webhooks.deliverer import Deliverer
from gateway.webhooks.endpoints import Endpoint, Webhooks, read_webhooks
from gateway.webhooks.follower import Follower
from gateway.webhooks.outbox import OutboxThread, hold_alone, open_outbox
from gateway.webhooks.sender import open_sender

log = logging.getLogger(__name__)

_Stamps = tuple[tuple[int, ...] | None, ...]

_COUNT_EVERY_S = 2.0
_LOOK_EVERY_S = 1.0
_RESTART_S = 5.0
_LEAVING_S = 5.0
"""How long attempts in flight may take at shutdown; those cut off are made again at the start."""


@contextlib.asynccontextmanager
async def open_webhooks(settings: Settings) -> AsyncIterator[None]:
    """Follow events and deliver them meanwhile, if that is on; raises `SettingsError`."""
    if settings.webhooks is None or settings.state is None:
        yield
        return
    with hold_alone(settings.state):
        webhooks, stopping = read_webhooks(settings.webhooks), asyncio.Event()
        async with contextlib.AsyncExitStack() as running:
            stamps = _read_stamps(webhooks)
            await running.enter_async_context(_run(settings, settings.state, webhooks))
            file = _File(settings.webhooks, webhooks, stamps)
            reloading = asyncio.create_task(
                _reload(settings, settings.state, file, running, stopping)
            )
            try:
                yield
            finally:
                stopping.set()
                await reloading


@dataclass(slots=True)
class _File:
    """What was read of the file last, and how it and its secrets looked then."""

    path: Path
    webhooks: Webhooks
    stamps: _Stamps
    problem: str = ""

    def read_again(self) -> Webhooks | None:
        """The endpoints if the file has changed and can be read; what is wrong is logged once."""
        stamps = _read_stamps(self.webhooks)
        if stamps == self.stamps and not self.problem:
            return None
        self.stamps = stamps  # of before it is read, so that a change meanwhile is seen next time
        try:
            webhooks = read_webhooks(self.path)
        except SettingsError as error:
            if str(error) != self.problem:
                log.error("webhooks: what was read before stays in use: %s", error)
            self.problem = str(error)
            return None
        self.webhooks, self.stamps, self.problem = webhooks, _read_stamps(webhooks), ""
        return webhooks


async def _reload(
    settings: Settings,
    state: Path,
    file: _File,
    running: contextlib.AsyncExitStack,
    stopping: asyncio.Event,
) -> None:
    """Look at the file until `stopping`, and start with what it says now."""
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY_S):
                await stopping.wait()
                return
        if (webhooks := file.read_again()) is None:
            continue
        await running.aclose()
        try:
            await running.enter_async_context(_run(settings, state, webhooks))
        except SettingsError as error:
            file.problem = str(error)  # tried again
            log.error("webhooks: stopped: %s", error)
        else:
            log.info("webhooks: the file was read again: %d endpoints", len(webhooks.endpoints))


def _read_stamps(webhooks: Webhooks) -> _Stamps:
    stamps: list[tuple[int, ...] | None] = []
    for path in webhooks.files:
        try:
            status = path.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(stamps)


@contextlib.asynccontextmanager
async def _run(settings: Settings, state: Path, webhooks: Webhooks) -> AsyncIterator[None]:
    """Follow and deliver as the file says."""
    with open_outbox(state, webhooks.max_pending) as outbox:
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
