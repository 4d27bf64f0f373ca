"""What comes of a call's requests: bytes that are no message of its type, no audio for too long.

Both are refused inside the guards, as what they are. gRPC would refuse the first before any guard,
as UNKNOWN and with a traceback in the log, and wait for the second for ever.

A request that is one message is read inside the guards, too, by serving it as a stream of one: who
is refused for want of a credential, a role or room is refused before it, and it stays with the
client till then but for what the connection's window lets through.

A stream is waited for out of its patience, `max_pause_s` at the most, which only audio restores: a
byte earns a hundredth of a second. A second of telephone speech earns more than a minute, the
sparest Opus seven times what it takes, and a byte a second next to nothing.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from service.errors import InvalidArgument, TimedOut
from service.rpc.room import Room

_OURS = "/sayso."
_ILLEGIBLE = object()
_LEAST_BYTES_PER_S = 100

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_Opened: TypeAlias = Callable[[Context], AbstractAsyncContextManager[Any]]


class Reading(grpc.aio.ServerInterceptor):
    """Belongs innermost; raises there `InvalidArgument`, `Overloaded` where a request finds no room
    of `max_message_bytes`, and `TimedOut` for one whose patience is used up."""

    def __init__(self, *, max_pause_s: float, room: Room, max_message_bytes: int) -> None:
        self._max_pause_s = max_pause_s
        self._room = room
        self._max_message_bytes = max_message_bytes

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(_OURS):
            return handler
        asked, opened = (
            ("stream", self._stream) if handler.request_streaming else ("unary", self._whole)
        )
        told, around = ("stream", _streaming) if handler.response_streaming else ("unary", _unary)
        call = getattr(handler, f"{asked}_{told}")
        return handler._replace(
            request_streaming=True,
            request_deserializer=_or_illegible(handler.request_deserializer),
            **{f"stream_{told}": around(call, opened)},
        )

    @asynccontextmanager
    async def _stream(self, context: Context) -> "AsyncIterator[_Stream]":
        yield _Stream(context, self._max_pause_s)

    @asynccontextmanager
    async def _whole(self, context: Context) -> AsyncIterator[Any]:
        """The request; until it is there nobody knows how large it is."""
        with await self._room.place(self._max_message_bytes) as place:
            refusal = f"the request was not sent within {self._max_pause_s:g} s; send it at once"
            request = _legible(await _read(context, self._max_pause_s, refusal))
            place.keep(request.ByteSize())
            yield request


class _Stream:
    """Requests as they come; time in which nobody waits for them costs no patience."""

    def __init__(self, context: Context, max_pause_s: float) -> None:
        self._context = context
        self._max_pause_s = max_pause_s
        self._patience_s = max_pause_s

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        began_s = time.monotonic()
        refusal = (
            f"the stream sent hardly any audio for {self._max_pause_s:g} s; send some or end it"
        )
        request = await _read(self._context, self._patience_s, refusal)
        if request is grpc.aio.EOF:
            raise StopAsyncIteration
        audio_s = len(_legible(request).audio) / _LEAST_BYTES_PER_S
        left_s = self._patience_s - (time.monotonic() - began_s)
        self._patience_s = min(self._max_pause_s, left_s + audio_s)
        return request


async def _read(context: Context, patience_s: float, refusal: str) -> Any:
    """The next request, or `grpc.aio.EOF`; gRPC's own iterator would keep hold of the last one."""
    try:
        async with asyncio.timeout(patience_s):
            return await context.read()
    except TimeoutError as error:
        raise TimedOut(refusal) from error


def _or_illegible(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def deserialized(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _ILLEGIBLE

    return deserialized


def _legible(request: Any) -> Any:
    if request is _ILLEGIBLE or request is grpc.aio.EOF:
        raise InvalidArgument("is not of this rpc's type", field="request")
    return request


def _unary(call: Any, opened: _Opened) -> Any:
    @functools.wraps(call)
    async def wrapped(unread: Any, context: Context) -> Any:
        async with opened(context) as request:
            return await call(request, context)

    return wrapped


def _streaming(call: Any, opened: _Opened) -> Any:
    @functools.wraps(call)
    async def wrapped(unread: Any, context: Context) -> AsyncIterator[Any]:
        async with opened(context) as request:
            async for response in call(request, context):
                yield response

    return wrapped
