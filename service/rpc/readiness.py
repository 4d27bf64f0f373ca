"""Readiness: the server is healthy while everything that it depends on can be reached."""

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
"""Checks a dependency; raises `Unavailable` while it cannot be reached."""


class Readiness:
    """Sets the health of `services` and of the whole server: SERVING while the store and all
    `needs` can be reached. `disabled` services are NOT_SERVING for good."""

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
        self._last_reason: str | None = None

    async def check(self) -> None:
        """Check all dependencies; updates health, metrics and the log if the state changed."""
        reason = await self._find_missing()
        if reason == self._last_reason:
            return
        if reason:
            log.warning("not ready: %s", reason)
        self._last_reason = self.servicer.reason = reason
        metrics.set_ready(not reason and not self._disabled)
        self.servicer.set(serving=not reason)

    async def _find_missing(self) -> str:
        """Return why the server is not ready, or an empty string."""
        for need in self._needs:
            try:
                await need()
            except Unavailable as error:
                return error.message
            except Exception:  # an error that ended this task would go unnoticed
                log.exception("not ready")
                return "the store failed"
        return ""

    async def watch(self, glance: Callable[[], None]) -> None:
        """Check every second until cancelled, and call `glance` each time."""
        while True:
            await asyncio.sleep(_PING_S)
            glance()
            await self.check()

    async def drain(self, server: grpc.aio.Server, grace_s: float) -> None:
        """Turn unhealthy, then wait up to `grace_s` seconds for the calls in flight."""
        metrics.set_ready(False)
        self.servicer.stop()
        await server.stop(grace_s)
