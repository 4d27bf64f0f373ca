"""What comes of a call's requests: bytes that are no message of its type, no audio for too long.

Both are refused inside the guards, as what they are. gRPC would refuse the first before any guard,
as UNKNOWN and with a traceback in the log, and wait for the second for ever.

A stream is waited for out of its patience, `max_pause_s` at the most, which only audio restores: a
byte earns a hundredth of a second. A second of telephone speech earns more than a minute, the
sparest Opus seven times what it takes, and a byte a second next to nothing.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from service.errors import InvalidArgument, TimedOut

_OURS = "/sayso."
_ILLEGIBLE = object()
_LEAST_BYTES_PER_S = 100


class Reading(grpc.aio.ServerInterceptor):
    """Belongs innermost; raises there `InvalidArgument`, and `TimedOut` for a stream whose patience
    is used up."""

    def __init__(self, *, max_pause_s: float) -> None:
        self._max_pause_s = max_pause_s

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(_OURS):
            return handler
        read = self._stream if handler.request_streaming else _legible
        kinds = ("unary", "stream")
        field = f"{kinds[handler.request_streaming]}_{kinds[handler.response_streaming]}"
        wrap = _streaming if handler.response_streaming else _unary
        return handler._replace(
            request_deserializer=_or_illegible(handler.request_deserializer),
            **{field: wrap(getattr(handler, field), read)},
        )

    def _stream(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        return _Stream(requests, self._max_pause_s)


class _Stream:
    """Requests as they come; time in which nobody waits for them costs no patience."""

    def __init__(self, requests: AsyncIterator[Any], max_pause_s: float) -> None:
        self._requests = aiter(requests)
        self._max_pause_s = max_pause_s
        self._patience_s = max_pause_s

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        request = _legible(await self._waited_for())
        earned_s = len(request.audio) / _LEAST_BYTES_PER_S
        self._patience_s = min(self._max_pause_s, self._patience_s + earned_s)
        return request

    async def _waited_for(self) -> Any:
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(self._patience_s):
                return await anext(self._requests)
        except TimeoutError as error:
            raise TimedOut(
                f"the stream sent hardly any audio for {self._max_pause_s:g} s; send it, or end it"
            ) from error
        finally:
            self._patience_s -= time.monotonic() - began_s


def _or_illegible(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def deserialized(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _ILLEGIBLE

    return deserialized


def _legible(request: Any) -> Any:
    if request is _ILLEGIBLE:
        raise InvalidArgument("is not of this rpc's type", field="request")
    return request


def _unary(call: Any, read: Callable[[Any], Any]) -> Any:
    @functools.wraps(call)
    async def wrapped(request: Any, context: Any) -> Any:
        return await call(read(request), context)

    return wrapped


def _streaming(call: Any, read: Callable[[Any], Any]) -> Any:
    @functools.wraps(call)
    async def wrapped(request: Any, context: Any) -> AsyncIterator[Any]:
        async for response in call(read(request), context):
            yield response

    return wrapped
