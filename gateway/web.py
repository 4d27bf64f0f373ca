"""The HTTP and WebSocket listener: a path for each platform.

upgrade ─> authenticate ─> accept ─> connector, until the platform or the connector ends it
              └─ 403

GET /health   200, or 503 once the gateway drains
"""

import asyncio
import hmac
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from sayso import SettingsError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.calls import Calls
from gateway.connectors import audiohook, pcm, twilio
from gateway.connectors.dialects import DIALECTS
from gateway.connectors.http_signature import InvalidSignature, Verifier, decode_secret
from gateway.connectors.streams import Order, Parse, verify_stream
from gateway.errors import CallRefused, GatewayError, ProtocolError
from gateway.secret_file import read_secrets
from gateway.settings import Settings
from gateway.sockets import MAX_MESSAGE_BYTES, Socket

_HANDSHAKE_S = 10.0
_MIN_TOKEN_CHARACTERS = 20
_PROTOCOL_ERROR, _POLICY_VIOLATION, _INTERNAL_ERROR = 1002, 1008, 1011

log = logging.getLogger(__name__)

Endpoint = Callable[[WebSocket], Awaitable[None]]
Serve = Callable[[Socket], Awaitable[None]]


def make_app(settings: Settings, calls: Calls) -> Starlette:
    """The application; raises `SettingsError` for a secret file that cannot be used."""

    async def show_health(request: Request) -> Response:
        if calls.draining:
            return PlainTextResponse("draining\n", 503)
        return PlainTextResponse("ok\n")

    routes: list[BaseRoute] = [Route("/health", show_health)]
    if settings.twilio_auth_tokens is not None:
        routes += list_twilio_routes(settings, calls)
    if settings.stream_tokens is not None:
        routes += list_dialect_routes(settings, calls)
    if settings.audiohook_keys is not None:
        routes.append(make_audiohook_route(settings, calls))
    if settings.pcm:
        routes.append(make_pcm_route(settings, calls))
    return Starlette(routes=routes)


def list_twilio_routes(settings: Settings, calls: Calls) -> list[BaseRoute]:
    assert settings.twilio_auth_tokens is not None
    tokens = [token for [token] in read_secrets(settings.twilio_auth_tokens, words="token")]
    base = settings.public_url.rstrip("/")

    def make_route(path: str, *, hangs_up: bool) -> WebSocketRoute:
        async def answer(websocket: WebSocket) -> None:
            signature = websocket.headers.get(twilio.SIGNATURE_HEADER, "")
            if not twilio.is_signed(signature, base + path, tokens):
                log.warning("%s: refused: no signature by an auth token of %s", path, base + path)
                await websocket.close()
                return
            await serve(
                websocket,
                settings,
                lambda socket: verify_stream(socket, calls, twilio.parse_event, hangs_up=hangs_up),
            )

        return WebSocketRoute(path, answer)

    return [
        make_route("/twilio", hangs_up=False),
        make_route("/twilio/connect", hangs_up=True),
    ]


def list_dialect_routes(settings: Settings, calls: Calls) -> list[BaseRoute]:
    """A path for each vendor, ending in a token: /telnyx/<token>."""
    assert settings.stream_tokens is not None
    tokens = [token for [token] in read_secrets(settings.stream_tokens, words="token")]
    if any(len(token) < _MIN_TOKEN_CHARACTERS for token in tokens):
        raise SettingsError(
            f"{settings.stream_tokens}: a token has fewer than {_MIN_TOKEN_CHARACTERS} characters"
        )

    def make_route(vendor: str, connector: Serve) -> WebSocketRoute:
        async def answer(websocket: WebSocket) -> None:
            shown = websocket.path_params["token"].encode()
            if not any([hmac.compare_digest(shown, token.encode()) for token in tokens]):  # noqa: C419 - in equal time
                log.warning("/%s: refused: the token is none of the file's", vendor)
                await websocket.close()
                return
            await serve(websocket, settings, connector)

        return WebSocketRoute(f"/{vendor}/{{token}}", answer)

    def make_connector(parse: Parse, make_order: Callable[[], Order]) -> Serve:
        return lambda socket: verify_stream(socket, calls, parse, order=make_order())

    vonage = partial(pcm.verify_pcm, calls=calls, platform=pcm.VONAGE, credential=None)
    routes: list[BaseRoute] = [make_route("vonage", vonage)]
    routes += [make_route(vendor, make_connector(*how)) for vendor, how in DIALECTS.items()]
    return routes


def make_audiohook_route(settings: Settings, calls: Calls) -> WebSocketRoute:
    assert settings.audiohook_keys is not None
    verifier = Verifier(read_audiohook_keys(settings.audiohook_keys))
    public = urlsplit(settings.public_url).netloc

    async def answer(websocket: WebSocket) -> None:
        headers = websocket.headers
        query = websocket.url.query
        target = websocket.url.path + (f"?{query}" if query else "")
        authority = public or headers.get("host", "")
        try:
            verifier.verify(headers, target=target, authority=authority)
        except InvalidSignature as error:
            log.warning("/audiohook: refused: %s", error)
            await serve(websocket, settings, lambda socket: audiohook.refuse(socket, headers))
            return
        await serve(
            websocket,
            settings,
            lambda socket: audiohook.verify_session(socket, calls, headers),
        )

    return WebSocketRoute("/audiohook", answer)


def read_audiohook_keys(path: Path) -> dict[str, bytes]:
    """The client secrets by API key; raises `SettingsError`."""
    try:
        return {
            key: decode_secret(secret) for key, secret in read_secrets(path, words="key secret")
        }
    except ValueError as error:
        raise SettingsError(f"{path}: a client secret is not base64: {error}") from error


def make_pcm_route(settings: Settings, calls: Calls) -> WebSocketRoute:
    async def answer(websocket: WebSocket) -> None:
        offered = websocket.scope["subprotocols"]
        if not (key := pcm.find_key(websocket.headers, offered)):
            log.warning("/pcm: refused: no key was shown")
            await websocket.close()
            return
        protocol = pcm.choose_protocol(offered)
        await serve(
            websocket,
            settings,
            lambda socket: pcm.verify_pcm(socket, calls, pcm.PLATFORMS[protocol], credential=key),
            protocol,
        )

    return WebSocketRoute("/pcm", answer)


async def serve(
    websocket: WebSocket, settings: Settings, connector: Serve, subprotocol: str | None = None
) -> None:
    """Accept a WebSocket, and run the connector on it; what it raises becomes a close code."""
    await websocket.accept(subprotocol)
    socket = Socket(websocket, start_s=settings.start_s, max_pause_s=settings.max_pause_s)
    code = 1000
    try:
        await connector(socket)
    except GatewayError as error:
        code = _PROTOCOL_ERROR if isinstance(error, ProtocolError) else _POLICY_VIOLATION
        level = logging.WARNING if isinstance(error, CallRefused) else logging.INFO
        log.log(level, "%s: closed: %s", get_place(websocket), error)
    except Exception:
        code = _INTERNAL_ERROR
        log.exception("%s failed", get_place(websocket))
    finally:
        await socket.close(code)


def get_place(websocket: WebSocket) -> str:
    """The path without its token, for logs."""
    return "/".join(websocket.url.path.split("/")[:2])


class _Protocol(H11Protocol):
    """Closes a connection that has not sent a whole request, or finished one, in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(_HANDSHAKE_S, transport.close)

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
