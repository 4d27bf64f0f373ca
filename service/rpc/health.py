"""`grpc.health.v1`: reports to probes and watchers whether the server takes calls."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.errors import NotFound

Context = grpc.aio.ServicerContext[Any, Any]

_States = health_pb2.HealthCheckResponse

REASON = "sayso-reason"
"""Trailing metadata of `Check` that says why the server does not serve."""


class HealthRpc(health_pb2_grpc.HealthServicer):
    """Keeps one state for all `services`, NOT_SERVING at first; `disabled` ones never serve.

    `Check` of a service that is not serving says why in its trailing metadata.

    gRPC's own servicer holds a lock while it writes to a watcher, so that a watcher who does not
    read would block every change of state.
    """

    def __init__(self, services: Iterable[str], disabled: Iterable[str] = ()) -> None:
        self._services = frozenset(services)
        self._disabled = frozenset(disabled)
        self._serving = self._stopping = False
        self._changed = asyncio.Event()
        self.reason = "the server is starting"

    def set(self, *, serving: bool) -> None:
        """Set the state and notify all watchers; a stopping server stays NOT_SERVING."""
        self._serving = serving and not self._stopping
        self._wake_watchers()

    def stop(self) -> None:
        """Set NOT_SERVING for good, notify all watchers and end their calls."""
        self._serving, self._stopping = False, True
        self.reason = "the server is stopping"
        self._wake_watchers()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self._services:
            raise NotFound("there is no such service")
        state = self._get_state(request.service)
        if state.status != _States.SERVING:
            reason = self.reason or "the model has no calibration"
            ascii_only = reason.encode("ascii", "replace").decode()
            context.set_trailing_metadata(((REASON, ascii_only),))
        return state

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        last = None
        while True:
            changed = self._changed
            if (state := self._get_state(request.service)) != last:
                yield state
                last = state
            elif self._stopping:
                return
            else:
                await changed.wait()

    def _get_state(self, service: str) -> health_pb2.HealthCheckResponse:
        if service not in self._services:
            return _States(status=_States.SERVICE_UNKNOWN)
        serving = self._serving and service not in self._disabled
        return _States(status=_States.SERVING if serving else _States.NOT_SERVING)

    def _wake_watchers(self) -> None:
        """Wakes all watchers. The new event is for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()
