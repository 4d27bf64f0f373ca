"""The WebSocket of a platform: how long it may be silent, and how slowly it may read."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from gateway.documents import parse_json
from gateway.errors import ProtocolError

MAX_MESSAGE_BYTES = 64 * 1024
"""Genesys sends the largest messages that any platform does."""

BROKEN = "broken"
"""Where the listener puts, in the state of a connection, what tells whether it broke, rather than
that the platform closed it."""

PENDING = "pending"
"""Where the listener puts, in the state of a connection, what counts the messages that have come
and are not yet received."""

_SEND_S = 5.0

log = logging.getLogger(__name__)


class Socket:
    """An accepted WebSocket: messages in, text out."""

    def __init__(self, websocket: WebSocket, *, start_s: float, max_pause_s: float) -> None:
        self._websocket = websocket
        self._wait_s = start_s
        self._max_pause_s = max_pause_s
        self._count_pending: Callable[[], int] = websocket.scope.get("state", {}).get(PENDING, int)

    @property
    def broken(self) -> bool:
        """Whether the platform left without closing the WebSocket."""
        return bool(self._websocket.scope.get("state", {}).get(BROKEN, bool)())

    async def messages(self) -> AsyncIterator[str | bytes]:
        """Yield messages until the platform leaves; raises `ProtocolError` when it is silent."""
        while (message := await self.receive()) is not None:
            yield message

    async def receive(self) -> str | bytes | None:
        """The next message; None once the platform has left."""
        if self._count_pending():
            event = await self._websocket.receive()  # at once: a timeout costs more than the rest
        else:
            event = await self._wait()
        self._wait_s = self._max_pause_s
        if event["type"] == "websocket.disconnect":
            return None
        text: str | None = event.get("text")
        data: bytes = event.get("bytes") or b""
        return data if text is None else text

    async def _wait(self) -> Message:
        try:
            async with asyncio.timeout(self._wait_s):
                return await self._websocket.receive()
        except TimeoutError:
            raise ProtocolError(f"nothing came for {self._wait_s:.0f} s") from None

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send a JSON object; one that the platform does not read in time is dropped."""
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            return
        try:
            async with asyncio.timeout(_SEND_S):
                await self._websocket.send_text(json.dumps(message))
        except (TimeoutError, WebSocketDisconnect, RuntimeError) as error:
            log.info("an answer was not sent: %s", error or "the platform does not read")

    async def close(self, code: int = 1000, reason: str = "") -> None:
        try:
            async with asyncio.timeout(_SEND_S):
                await self._websocket.close(code, reason)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            log.debug("the platform has left already")


def parse_object(message: str | bytes) -> dict[str, Any]:
    """Parse a TEXT message as a JSON object; raises `ProtocolError`."""
    if isinstance(message, bytes):
        raise ProtocolError("a binary message, where text was expected")
    try:
        parsed = parse_json(message)
    except ValueError:
        raise ProtocolError("a message is not JSON") from None
    if not isinstance(parsed, dict):
        raise ProtocolError("a message is not a JSON object")
    return parsed


def read_text(fields: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A field that is a string; raises `ProtocolError` if it is another, or missing without a
    default."""
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise ProtocolError(f"{name} is no string")
    return value


def read_number(fields: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """A field that is a whole number, or one in decimal digits; raises `ProtocolError`."""
    value = fields.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 16:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15:
        return value
    raise ProtocolError(f"{name} is no number")


def read_object(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A field that is an object; empty if it is missing. Raises `ProtocolError`."""
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ProtocolError(f"{name} is no object")
    return value
