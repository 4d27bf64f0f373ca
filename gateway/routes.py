"""A WebSocket path for each platform that is switched on.

upgrade ─> authenticate ─> accept ─> connector, until the platform or the connector ends it
              └─ 403
"""

import hmac
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from sayso import SettingsError
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from gateway import metrics
from gateway.calls import Calls
from gateway.connectors import audiohook, pcm, twilio
from gateway.connectors.dialects import DIALECTS
from gateway.connectors.http_signature import InvalidSignature, Verifier, decode_secret
from gateway.connectors.streams import verify_stream
from gateway.errors import CallRefused, GatewayError, ProtocolError
from gateway.secret_file import read_secrets
from gateway.settings import Settings
from gateway.sockets import Socket

_MIN_TOKEN_CHARACTERS = 20
_PROTOCOL_ERROR, _POLICY_VIOLATION, _INTERNAL_ERROR = 1002, 1008, 1011

log = logging.getLogger(__name__)

Connector = Callable[[Socket], Awaitable[None]]


def list_routes(settings: Settings, calls: Calls) -> Iterator[WebSocketRoute]:
    """Raise `SettingsError` for a secret file that cannot be used."""
    if settings.twilio_auth_tokens is not None:
        tokens = read_tokens(settings.twilio_auth_tokens)
        yield route_twilio("/twilio", tokens, settings, calls)
        yield route_twilio("/twilio/connect", tokens, settings, calls, hangs_up=True)
    if settings.stream_tokens is not None:
        tokens = read_tokens(settings.stream_tokens, least=_MIN_TOKEN_CHARACTERS)
        for vendor, connector in list_vendors(calls):
            yield route_by_token(vendor, tokens, settings, connector)
    if settings.audiohook_keys is not None:
        yield route_audiohook(settings.audiohook_keys, settings, calls)
    if settings.pcm or settings.console:
        yield route_pcm(settings, calls)


def route_twilio(
    path: str, tokens: list[str], settings: Settings, calls: Calls, *, hangs_up: bool = False
) -> WebSocketRoute:
    url = settings.public_url.rstrip("/") + path

    async def answer(websocket: WebSocket) -> None:
        signature = websocket.headers.get(twilio.SIGNATURE_HEADER, "")
        if not twilio.is_signed(signature, url, tokens):
            await refuse(websocket, f"no signature by an auth token of {url}")
            return
        connector = partial(verify_stream, calls=calls, parse=twilio.parse_event, hangs_up=hangs_up)
        await serve(websocket, settings, connector)

    return WebSocketRoute(path, answer)


def list_vendors(calls: Calls) -> Iterator[tuple[str, Connector]]:
    """The platforms that do not sign, by the first part of their path."""
    yield (
        "vonage",
        partial(
            pcm.verify_pcm,
            calls=calls,
            platform=pcm.VONAGE,
            credential=None,
            resume_as="stream token",
        ),
    )
    for vendor, (parse, order) in DIALECTS.items():
        yield vendor, partial(verify_stream, calls=calls, parse=parse, make_order=order)


def route_by_token(
    vendor: str, tokens: list[str], settings: Settings, connector: Connector
) -> WebSocketRoute:
    """/vendor/<token>"""

    async def answer(websocket: WebSocket) -> None:
        shown = websocket.path_params["token"].encode()
        if not any(hmac.compare_digest(shown, token.encode()) for token in tokens):
            await refuse(websocket, "the token is none of the file's")
            return
        await serve(websocket, settings, connector)

    return WebSocketRoute(f"/{vendor}/{{token}}", answer)


def route_audiohook(keys: Path, settings: Settings, calls: Calls) -> WebSocketRoute:
    verifier = Verifier(read_audiohook_keys(keys))
    public = urlsplit(settings.public_url).netloc

    async def answer(websocket: WebSocket) -> None:
        headers, url = websocket.headers, websocket.url
        target = url.path + (f"?{url.query}" if url.query else "")
        connector = partial(audiohook.verify_session, calls=calls, headers=headers)
        try:
            verifier.verify(headers, target=target, authority=public or headers.get("host", ""))
        except InvalidSignature as error:
            log.warning("/audiohook: refused: %s", error)
            metrics.REFUSED_CALLS.labels("audiohook", "credential").inc()
            connector = partial(audiohook.refuse, headers=headers)
        await serve(websocket, settings, connector)

    return WebSocketRoute("/audiohook", answer)


def route_pcm(settings: Settings, calls: Calls) -> WebSocketRoute:
    async def answer(websocket: WebSocket) -> None:
        offered = websocket.scope["subprotocols"]
        if not (key := pcm.find_key(websocket.headers, offered)):
            await refuse(websocket, "no key was shown")
            return
        protocol = pcm.choose_protocol(offered)
        platform = pcm.PLATFORMS[protocol]
        connector = partial(
            pcm.verify_pcm, calls=calls, platform=platform, credential=key, resume_as=f"key {key}"
        )
        await serve(websocket, settings, connector, protocol)

    return WebSocketRoute("/pcm", answer)


def read_tokens(path: Path, *, least: int = 1) -> list[str]:
    """The tokens of a file; raises `SettingsError` if one has fewer than `least` characters."""
    tokens = [token for [token] in read_secrets(path, words="token")]
    if any(len(token) < least for token in tokens):
        raise SettingsError(f"{path}: a token has fewer than {least} characters")
    return tokens


def read_audiohook_keys(path: Path) -> dict[str, bytes]:
    """The client secrets by API key; raises `SettingsError`."""
    try:
        return {
            key: decode_secret(secret) for key, secret in read_secrets(path, words="key secret")
        }
    except ValueError as error:
        raise SettingsError(f"{path}: a client secret is not base64: {error}") from error


async def refuse(websocket: WebSocket, why: str) -> None:
    """Answer 403 to an upgrade."""
    metrics.CONNECTOR.set(get_place(websocket).strip("/"))
    metrics.count_refusal("credential")
    log.warning("%s: refused: %s", get_place(websocket), why)
    await websocket.close()


async def serve(
    websocket: WebSocket, settings: Settings, connector: Connector, subprotocol: str | None = None
) -> None:
    """Accept a WebSocket, and run the connector on it; what it raises becomes a close code."""
    metrics.CONNECTOR.set(get_place(websocket).strip("/"))
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
