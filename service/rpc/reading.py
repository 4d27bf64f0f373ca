"""What comes of a call's requests: bytes that are no message of its type, no audio for too long.

Both are refused inside the guards, as what they are. gRPC would refuse the first before any guard,
as UNKNOWN and with a traceback in the log, and wait for the second for ever.

A request that is one message is read inside the guards, too, by serving it as a stream of one: a
caller without a credential or a role is refused before it, and until then the message stays with
the client but for what the connection's window lets through. How many of them a tenant may have in
memory is limited, so slow or large ones make only calls of their own tenant wait.

Each stream has a time budget, `max_pause_s` at the most. Waiting for a message spends it; every
byte of audio received restores a hundredth of a second. A second of telephone speech earns more
than a minute, the sparest Opus seven times what it takes, and a byte a second next to nothing.
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

from service.errors import InvalidArgument, OverLimit, TimedOut

MAX_MESSAGE_BYTES = 4 * 2**20
"""What gRPC servers take unless they are told otherwise. It refuses a message by its header."""

_OURS = "/sayso."
_ILLEGIBLE = object()
_LEAST_BYTES_PER_S = 100
_MESSAGES = 64  # of one tenant that arrive at once, or are large and in work
_LARGE_BYTES = 128 * 1024  # as much as an unread message may take of the connection's window
_PATIENCE_S = 10.0
_RETRY_AFTER_S = 1.0

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_Opened: TypeAlias = Callable[[Context], AbstractAsyncContextManager[Any]]


class Reading(grpc.aio.ServerInterceptor):
    """Belongs innermost; raises there `InvalidArgument`, `TimedOut` for a caller that sends too
    slowly, and `OverLimit`, which `count_refusal` is told of, when too many messages of the tenant
    of the call, which `tenant` gives, are in memory."""

    def __init__(
        self,
        *,
        max_pause_s: float,
        tenant: Callable[[], str],
        count_refusal: Callable[[str], None] = lambda limit: None,
        messages: int = _MESSAGES,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._max_pause_s = max_pause_s
        self._tenant = tenant
        self._count_refusal = count_refusal
        self._patience_s = patience_s
        self._places = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(messages))

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
            request_deserializer=or_illegible(handler.request_deserializer),
            **{f"stream_{told}": around(call, opened)},
        )

    @asynccontextmanager
    async def _stream(self, context: Context) -> "AsyncIterator[_Stream]":
        yield _Stream(context, self._max_pause_s)

    @asynccontextmanager
    async def _whole(self, context: Context) -> AsyncIterator[Any]:
        """The request. A small one gives its place back once it has arrived."""
        refusal = f"the request was not sent within {self._max_pause_s:g} s; send it at once"
        async with AsyncExitStack() as place:
            await place.enter_async_context(self._place())
            request = legible(await _read(context, self._max_pause_s, refusal))
            if request.ByteSize() <= _LARGE_BYTES:
                await place.aclose()
            yield request

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
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
    """Requests as they come; time in which nobody waits for them costs no patience."""

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
        audio_s = len(legible(request).audio) / _LEAST_BYTES_PER_S
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


def or_illegible(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def deserialized(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _ILLEGIBLE

    return deserialized


def legible(request: Any) -> Any:
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
