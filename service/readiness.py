"""Readiness: health follows the store; a server that cannot reach it takes no calls."""

import asyncio
import logging
from collections.abc import Callable, Sequence

import grpc
from grpc_health.v1 import health

from service import metrics
from service.errors import Unavailable
from service.rpc.health import HealthRpc
from service.store import Store

log = logging.getLogger(__name__)

_PING_S = 1.0


class Readiness:
    """What `grpc.health.v1` says of each of `services`, and of the server as a whole."""

    def __init__(self, store: Store, services: Sequence[str]) -> None:
        self.servicer = HealthRpc((health.OVERALL_HEALTH, *services))
        self._store = store
        self._serving: bool | None = None

    async def check(self) -> None:
        """Asks the store; tells health, the metrics and the log what is new."""
        try:
            await self._store.ping()
            serving, reason = True, ""
        except Unavailable as error:
            serving, reason = False, error.message
            if reason != self.servicer.reason:
                log.warning("not ready: %s", reason)
        except Exception:  # whatever it is, nobody would hear of it once this task has ended
            serving, reason = False, "the store failed"
            log.exception("not ready")
        self.servicer.reason = reason
        if serving is not self._serving:
            self._serving = serving
            metrics.ready(serving)
            self.servicer.set(serving=serving)

    async def watch(self, glance: Callable[[], None]) -> None:
        """Checks again and again, and takes a `glance` each time."""
        while True:
            await asyncio.sleep(_PING_S)
            glance()
            await self.check()

    async def drain(self, server: grpc.aio.Server, grace_s: float) -> None:
        """Turns unhealthy first, then lets the calls in flight finish."""
        metrics.ready(False)
        self.servicer.stop()
        await server.stop(grace_s)
