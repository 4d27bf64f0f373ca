"""Readiness: health follows what the server needs; one that cannot reach it takes no calls."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeAlias

import grpc
from grpc_health.v1 import health

from service.errors import Unavailable
from service.observability import metrics
from service.rpc.health import HealthRpc
from service.store import Store

log = logging.getLogger(__name__)

_PING_S = 1.0

Need: TypeAlias = Callable[[], Awaitable[None]]
"""Raises `Unavailable` while something that the server depends on is away."""


class Readiness:
    """What `grpc.health.v1` says of each of `services`, and of the server as a whole: SERVING while
    the store and all `needs` are there. Those `disabled` are NOT_SERVING for good."""

    def __init__(
        self,
        store: Store,
        services: Sequence[str],
        needs: Sequence[Need] = (),
        disabled: Collection[str] = (),
    ) -> None:
        self.servicer = HealthRpc((health.OVERALL_HEALTH, *services), disabled)
        self._needs = (store.ping, *needs)
        self._disabled = disabled
        self._told: str | None = None

    async def check(self) -> None:
        """Asks for what is needed; tells health, the metrics and the log what is new."""
        reason = await self._reason()
        if reason == self._told:
            return
        if reason:
            log.warning("not ready: %s", reason)
        self._told = self.servicer.reason = reason
        metrics.set_ready(not reason and not self._disabled)
        self.servicer.set(serving=not reason)

    async def _reason(self) -> str:
        """What is away; empty while the server is ready."""
        for need in self._needs:
            try:
                await need()
            except Unavailable as error:
                return error.message
            except Exception:  # whatever it is, nobody would hear of it once this task has ended
                log.exception("not ready")
                return "the store failed"
        return ""

    async def watch(self, glance: Callable[[], None]) -> None:
        """Checks again and again, and takes a `glance` each time."""
        while True:
            await asyncio.sleep(_PING_S)
            glance()
            await self.check()

    async def drain(self, server: grpc.aio.Server, grace_s: float) -> None:
        """Turns unhealthy first, then lets the calls in flight finish."""
        metrics.set_ready(False)
        self.servicer.stop()
        await server.stop(grace_s)
