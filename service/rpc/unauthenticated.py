"""Limits on methods without a credential: health and reflection.

They share nothing with the calls of tenants. Each kind of call has a few places and a deadline of
its own. When all places are taken, a newer call gets that of the oldest one on the connection that
has most of them, so a flood on a few connections ends its own calls and a probe is always answered.

gRPC buffers a message that is still arriving up to `rpc.reading.MAX_MESSAGE_BYTES`, whatever method
it is for. So the places of calls whose message has not arrived bound the memory of strangers.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from service.errors import InvalidArgument, Overloaded, TimedOut
from service.rpc.interceptors import OURS, Context, abort_with_status
from service.rpc.reading import require_legible, tolerate_illegible

MAX_MESSAGE_BYTES = 4 * 1024

_RETRY_AFTER_S = 1.0
_TOO_LARGE = object()


class Places:
    """Calls of one kind in progress, at most `count`, each for `deadline_s` at most."""

    def __init__(self, count: int, deadline_s: float, *, count_refusal: Callable[[], None]) -> None:
        self._count = count
        self._deadline_s = deadline_s
        self._count_refusal = count_refusal
        self._calls: dict[asyncio.Timeout, str] = {}  # the connection of each, the oldest first

    @asynccontextmanager
    async def take(self, connection: str) -> AsyncIterator[None]:
        """Occupies a place inside the context; raises `TimedOut` at the deadline, and `Overloaded`
        if a newer call takes the place over."""
        if len(self._calls) >= self._count:
            self._end_one()
        timer = asyncio.timeout(self._deadline_s)
        self._calls[timer] = connection
        try:
            async with timer:
                yield
        except TimeoutError as error:
            if not timer.expired():
                raise
            if timer in self._calls:
                raise TimedOut(f"the call was over {self._deadline_s:g} s long") from error
            raise Overloaded(
                "the server has too many calls of this kind, and ended the oldest",
                retry_after_s=_RETRY_AFTER_S,
            ) from error
        finally:
            self._calls.pop(timer, None)

    def _end_one(self) -> None:
        [(busiest, _)] = Counter(self._calls.values()).most_common(1)
        oldest = next(timer for timer, connection in self._calls.items() if connection == busiest)
        del self._calls[oldest]
        oldest.reschedule(asyncio.get_running_loop().time())
        self._count_refusal()


class UnauthenticatedMethods(grpc.aio.ServerInterceptor):
    """Limits every method outside this project's services. Use one instance for each server.

    `count_refusal` is called with `health`, `watch` or `reflection` for each call that is ended to
    make room for another.
    """

    def __init__(self, *, count_refusal: Callable[[str], None]) -> None:
        def make_places(limit: str, count: int, deadline_s: float) -> Places:
            return Places(count, deadline_s, count_refusal=lambda: count_refusal(limit))

        self._arriving = make_places("health", 8, 5.0)
        self._watching = make_places("watch", 256, 3600.0)
        self._streaming = make_places("reflection", 8, 60.0)

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(OURS):
            return handler
        return self._limit(handler_call_details.method, handler)

    def _limit(self, name: str, handler: Any) -> Any:
        """Wrap a handler as a stream handler, whose messages are read only on demand."""
        serve = self._serve_stream if handler.request_streaming else self._serve_one

        async def serve_limited(unread: Any, context: Context) -> None:
            try:
                await serve(handler, context)
            except Exception as error:
                await abort_with_status(error, name, context)

        return grpc.stream_stream_rpc_method_handler(
            serve_limited,
            _limit_size(tolerate_illegible(handler.request_deserializer)),
            handler.response_serializer,
        )

    async def _serve_one(self, handler: Any, context: Context) -> None:
        async with self._arriving.take(context.peer()):
            request = _check(await context.read())
            if not handler.response_streaming:
                await context.write(await handler.unary_unary(request, context))
                return
        async with self._watching.take(context.peer()):
            async for response in handler.unary_stream(request, context):
                await context.write(response)

    async def _serve_stream(self, handler: Any, context: Context) -> None:
        async with self._streaming.take(context.peer()):
            async for response in handler.stream_stream(_read_requests(context), context):
                await context.write(response)


async def _read_requests(context: Context) -> AsyncIterator[Any]:
    while (request := await context.read()) is not grpc.aio.EOF:
        yield _check(request)


def _limit_size(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def deserialize_small(data: bytes) -> Any:
        return _TOO_LARGE if len(data) > MAX_MESSAGE_BYTES else deserialize(data)

    return deserialize_small


def _check(request: Any) -> Any:
    if request is _TOO_LARGE:
        raise InvalidArgument(f"is over {MAX_MESSAGE_BYTES} bytes", field="request")
    return require_legible(request)
