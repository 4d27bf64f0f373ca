"""The HTTP and WebSocket listener.

/v1, /openapi.yaml   REST
/console             the console, a page for people

GET /health   200, or 503 once the gateway drains
(WebSocket)   a path for each platform: routes.py
"""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request as Upgrade

from gateway import console
from gateway.calls import Calls
from gateway.clients import Clients
from gateway.rest import Rest
from gateway.routes import list_routes
from gateway.settings import Settings
from gateway.shims import routes as shims
from gateway.sockets import BROKEN, MAX_MESSAGE_BYTES, PENDING

_HANDSHAKE_S = 10.0


def make_app(
    settings: Settings, calls: Calls, clients: Clients, rest: Rest | None = None
) -> Starlette:
    """The application; raises `SettingsError` for a secret file that cannot be used."""

    async def show_health(request: Request) -> Response:
        if calls.draining:
            return PlainTextResponse("draining\n", 503)
        return PlainTextResponse("ok\n")

    routes = [Route("/health", show_health), *list_routes(settings, calls)]
    routes += shims.list_routes(settings, calls, clients)
    if rest is not None:
        routes += rest.list_routes()
    if settings.console:
        routes += console.list_routes(settings)
    return Starlette(routes=routes)


class _Protocol(H11Protocol):
    """Closes a connection whose next request does not begin in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_request()

    def _wait_for_request(self) -> None:
        self._deadline = self.loop.call_later(_HANDSHAKE_S, self.transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._deadline.cancel()  # who answers the request limits it from here on

    def on_response_complete(self) -> None:
        self._deadline.cancel()
        self._wait_for_request()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._deadline.cancel()
        super().handle_websocket_upgrade(event)


class _PacedWebSocket(WebSocketsSansIOProtocol):
    """Reads what a platform has sent since the last time at once, rather than each frame of 20 ms
    as it comes: the kernel joins them meanwhile, at a fraction of the processor time."""

    def __init__(self, *, read_every_s: float, **served: Any) -> None:
        super().__init__(**served)
        self._read_every_s = read_every_s
        self._read_s = 0.0

    def handle_connect(self, event: Upgrade) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            state = self.scope.setdefault("state", {})
            state |= {PENDING: self.queue.qsize, BROKEN: self._is_broken}

    def _is_broken(self) -> bool:
        return self.disconnected and self.conn.close_rcvd is None and not self.close_sent

    def data_received(self, data: bytes) -> None:
        self._read_s = self.loop.time()
        super().data_received(data)

    async def receive(self) -> Any:
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self.loop.call_at(self._read_s + self._read_every_s, self._resume)
        return message

    def _resume(self) -> None:
        if not (self.read_paused or self.transport.is_closing()):
            self.transport.resume_reading()


class WebServer(uvicorn.Server):
    """Leaves signals to the process, which drains before it stops this."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(settings: Settings, app: Starlette) -> WebServer:
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws=cast(Any, partial(_PacedWebSocket, read_every_s=settings.message_s)),
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,  # costs processor time, and audio does not shrink
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=2 * settings.max_calls + 100,
        timeout_graceful_shutdown=5,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
    )
    return WebServer(config)
