"""Reads requests inside the guards, and refuses malformed, slow and too many messages.

gRPC would refuse bytes that are not a message of the rpc's type before any guard, as UNKNOWN and
with a traceback in the log, and would wait for a slow client for ever.

A unary request is also read inside the guards, by serving it as a stream of one message: a caller
without a credential or role is refused before its message is read. Until then the client keeps
the message, except for what fits in the connection's window. The number of messages in memory is
limited per tenant, so that slow or large ones delay only calls of the same tenant.

Each stream has a time budget of at most `max_pause_s`. Waiting for a message spends it; every byte
of audio received restores 10 ms. A second of telephone speech restores more than a minute, the
lowest rate of Opus seven times what it spends, and one byte a second almost nothing.
"""

import asyncio
import functools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from sayso.v1.verification_pb2 import BatchEnrollRequest

from service.errors import InvalidArgument, OverLimit, TimedOut

MAX_MESSAGE_BYTES = 4 * 2**20
"""gRPC's default limit. A larger message is refused by its header."""

_OURS = "/sayso."
_ILLEGIBLE = object()
_LEAST_BYTES_PER_S = 100
_MAX_MESSAGES = 64  # of one tenant that arrive at once, or are large and in work
_LARGE_BYTES = 128 * 1024  # as much as an unread message may take of the connection's window
_PATIENCE_S = 10.0
_RETRY_AFTER_S = 1.0

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_OpenRequests: TypeAlias = Callable[[Context], AbstractAsyncContextManager[Any]]


class Reading(grpc.aio.ServerInterceptor):
    """Reads the requests of this project's methods; must be the innermost interceptor.

    Raises `InvalidArgument` for bytes that are not a request, `TimedOut` for a caller that sends
    too slowly, and `OverLimit` if the caller's `tenant` has too many messages in memory, which
    `count_refusal` counts.
    """

    def __init__(
        self,
        *,
        max_pause_s: float,
        tenant: Callable[[], str],
        count_refusal: Callable[[str], None] = lambda limit: None,
        max_messages: int = _MAX_MESSAGES,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._max_pause_s = max_pause_s
        self._tenant = tenant
        self._count_refusal = count_refusal
        self._patience_s = patience_s
        self._places = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(max_messages))

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(_OURS):
            return handler
        requests, open_requests = (
            ("stream", self._open_stream)
            if handler.request_streaming
            else ("unary", self._read_message)
        )
        responses, wrap = (
            ("stream", _wrap_streaming) if handler.response_streaming else ("unary", _wrap_unary)
        )
        call = getattr(handler, f"{requests}_{responses}")
        return handler._replace(
            request_streaming=True,
            request_deserializer=tolerate_illegible(handler.request_deserializer),
            **{f"stream_{responses}": wrap(call, open_requests)},
        )

    @asynccontextmanager
    async def _open_stream(self, context: Context) -> "AsyncIterator[_Stream]":
        yield _Stream(context, self._max_pause_s)

    @asynccontextmanager
    async def _read_message(self, context: Context) -> AsyncIterator[Any]:
        """Yield the request; a small one frees its place as soon as it has arrived."""
        refusal = f"the request was not sent within {self._max_pause_s:g} s; send it at once"
        async with AsyncExitStack() as place:
            await place.enter_async_context(self._take_place())
            request = require_legible(await _read(context, self._max_pause_s, refusal))
            if request.ByteSize() <= _LARGE_BYTES:
                await place.aclose()
            yield request

    @asynccontextmanager
    async def _take_place(self) -> AsyncIterator[None]:
        places = self._places[self._tenant()]
        try:
            async with asyncio.timeout(self._patience_s):
                await places.acquire()
        except TimeoutError as error:
            self._count_refusal("messages")
            raise OverLimit(
                "this tenant's requests that are still arriving, or are large, take all the memory "
                "there is for them; send them without delay, or fewer at once",
                retry_after_s=_RETRY_AFTER_S,
            ) from error
        try:
            yield
        finally:
            places.release()


class _Stream:
    """Iterates over the requests; only time spent waiting for them counts against the budget."""

    def __init__(self, context: Context, max_pause_s: float) -> None:
        self._context = context
        self._max_pause_s = max_pause_s
        self._patience_s = max_pause_s
        self._refusal = (
            f"the stream sent hardly any audio for {max_pause_s:g} s; send some or end it"
        )

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        began_s = time.monotonic()
        try:  # as in `_read`, which would be two more frames of a message of 20 ms
            async with asyncio.timeout(self._patience_s):
                request = await self._context.read()
        except TimeoutError as error:
            raise TimedOut(self._refusal) from error
        if request is grpc.aio.EOF:
            raise StopAsyncIteration
        audio_s = len(_get_audio(require_legible(request))) / _LEAST_BYTES_PER_S
        left_s = self._patience_s - (time.monotonic() - began_s)
        self._patience_s = min(self._max_pause_s, left_s + audio_s)
        return request


async def _read(context: Context, patience_s: float, refusal: str) -> Any:
    """Read the next request or `grpc.aio.EOF`. gRPC's own iterator would keep the last request
    in memory."""
    try:
        async with asyncio.timeout(patience_s):
            return await context.read()
    except TimeoutError as error:
        raise TimedOut(refusal) from error


def _get_audio(request: Any) -> bytes:
    """Return the audio of a stream message; an item of a batch holds a whole enrollment."""
    batched = isinstance(request, BatchEnrollRequest)
    audio: bytes = request.enrollment.audio if batched else request.audio
    return audio


def tolerate_illegible(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Make a deserializer return a marker, which `require_legible` refuses, instead of raising."""

    def deserialize_or_mark(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _ILLEGIBLE

    return deserialize_or_mark


def require_legible(request: Any) -> Any:
    """Return the request; raises `InvalidArgument` if there is none or it was not deserialized."""
    if request is _ILLEGIBLE or request is grpc.aio.EOF:
        raise InvalidArgument("is not of this rpc's type", field="request")
    return request


def _wrap_unary(call: Any, open_requests: _OpenRequests) -> Any:
    @functools.wraps(call)
    async def wrapped(unread: Any, context: Context) -> Any:
        async with open_requests(context) as request:
            return await call(request, context)

    return wrapped


def _wrap_streaming(call: Any, open_requests: _OpenRequests) -> Any:
    @functools.wraps(call)
    async def wrapped(unread: Any, context: Context) -> AsyncIterator[Any]:
        async with open_requests(context) as request:
            async for response in call(request, context):
                yield response

    return wrapped
