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
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway import console
from gateway.calls import Calls
from gateway.clients import Clients
from gateway.rest import Rest
from gateway.routes import list_routes
from gateway.settings import Settings
from gateway.shims import routes as shims
from gateway.sockets import MAX_MESSAGE_BYTES

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
        routes += console.list_routes()
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


class WebServer(uvicorn.Server):
    """Leaves signals to the process, which drains before it stops this."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(settings: Settings, app: Starlette) -> WebServer:
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="websockets-sansio",
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
