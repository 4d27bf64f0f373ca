"""Calls on a gRPC channel, from coroutines of one event loop."""

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
)
from typing import Any, TypeVar

import grpc

from sayso import health
from sayso.calls import Call, Feed, Pages, Service, Stream, iterate
from sayso.connection import LEAVING_S, RESUME_S, Target
from sayso.errors import Unavailable
from sayso.statuses import REQUEST_ID_KEY, make_error

Result = TypeVar("Result")

_HAS_ENDED = (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError)
"""What using a call raises that has ended."""

_LATE_WRITE = "Internal error from Core"


class Transport:
    """Opens its channel at the first call, for the event loop that runs then; raises the classes of
    `sayso.errors`."""

    def __init__(self, target: Target, *, timeout_s: float, request_ids: Callable[[], str]) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._request_ids = request_ids
        self._channel: Any = None
        self._stubs: dict[Service, Any] = {}

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def send(self, call: Call[Result]) -> Result:
        timeout_s = self._timeout_s if call.timeout_s is None else call.timeout_s
        if call.streamed:
            requests = iterate(call.request)
            sent = self.exchange(call.service, call.rpc, requests, timeout_s=timeout_s)
            *_, response = [response async for response in sent]
            return call.read(response)
        method, metadata, request_id = self._prepare(call.service, call.rpc)
        try:
            response = await method(call.request, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise make_error(error, request_id) from error
        return call.read(response)

    async def read_pages(self, pages: Pages[Result]) -> AsyncGenerator[Result, None]:
        while True:
            page = await self.send(Call(pages.service, pages.rpc, pages.request, lambda page: page))
            for each in pages.read(page):
                yield each
            if not page.next_page_token:
                return
            pages.request.page_token = page.next_page_token

    async def stream(
        self, stream: Stream[Result], chunks: AsyncIterable[bytes] | Iterable[bytes]
    ) -> AsyncGenerator[Result, None]:
        requests = stream.requests_as_they_come(chunks)
        responses = self.exchange(stream.service, stream.rpc, requests, concludes=stream.concludes)
        async with contextlib.aclosing(responses):
            async for response in responses:
                yield stream.read(response)

    async def follow(self, feed: Feed[Result]) -> AsyncGenerator[Result, None]:
        """Yield what comes, over any number of connections once the first has answered."""
        answered = False
        while True:
            method, metadata, request_id = self._prepare(feed.service, feed.rpc)
            call = method(feed.request, metadata=metadata)
            try:
                async for response in call:
                    answered, feed.request.resume_token = True, response.resume_token
                    if (result := feed.read(response)) is not None:
                        yield result
            except grpc.aio.AioRpcError as error:
                failure = make_error(error, request_id)
                if not (answered and isinstance(failure, Unavailable)):
                    raise failure from error
            finally:
                call.cancel()
            await asyncio.sleep(RESUME_S)

    async def exchange(
        self,
        service: Service,
        rpc: str,
        requests: AsyncIterator[Any],
        *,
        concludes: bool = False,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Yield the responses while a task sends the requests."""
        method, metadata, request_id = self._prepare(service, rpc)
        call = method(timeout=timeout_s, metadata=metadata)
        ended = _Ending(call)
        sender = _Sender(call, requests)
        try:
            async for response in call:
                yield response
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            if (failure := sender.failure()) is not None:
                raise failure from None
            if isinstance(error, asyncio.CancelledError):
                raise
            if (ending := ended.correct(error)) is not None:
                raise make_error(ending, request_id) from error
        except GeneratorExit:
            if concludes:
                await _conclude(call, sender)
            raise
        finally:
            sender.cancel()
            call.cancel()

    async def why_not_ready(self) -> str:
        check = health.open_check(self._open())(
            health.REQUEST, timeout=self._timeout_s, metadata=self._target.metadata
        )
        try:
            return health.explain(await check, await check.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            return health.explain_error(error)

    def _open(self) -> Any:
        if self._channel is None:
            self._channel = self._target.open(grpc.aio)
        return self._channel

    def _prepare(self, service: Service, rpc: str) -> tuple[Any, Any, str]:
        """The method of a stub, the metadata of a call, and the request id in it."""
        if service not in self._stubs:
            self._stubs[service] = service(self._open())
        request_id = self._request_ids()
        metadata = (*self._target.metadata, (REQUEST_ID_KEY, request_id))
        return getattr(self._stubs[service], rpc), metadata, request_id


class _Ending:
    """What the server ended a call with.

    A write that fails because the server has just ended the call makes grpc.aio put INTERNAL in the
    place of the status (github.com/grpc/grpc/issues/36066), so the status is noted when it comes.
    """

    def __init__(self, call: Any) -> None:
        self._noted: tuple[Any, ...] | None = None
        call.add_done_callback(self._note)

    def correct(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError | None:
        """The error of the status that came first, if grpc.aio has replaced it; None if all went
        well."""
        if self._noted is None or error.details() != _LATE_WRITE:
            return error
        code, trailing, text = self._noted
        if code is grpc.StatusCode.OK:
            return None
        return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, text)

    def _note(self, call: Any) -> None:
        if self._noted is None:
            asked = (call.code(), call.trailing_metadata(), call.details())
            self._noted = tuple(map(_finish, asked))


def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for. To await it would be too late."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    raise AssertionError("a call that is done knows its status")


class _Sender:
    """A task that writes requests, and half-closes the call when they end.

    If one cannot be made, the call is cancelled: half-closed, it would be concluded as if they had
    ended.
    """

    def __init__(self, call: Any, requests: AsyncIterator[Any]) -> None:
        self._call = call
        self._requests = requests
        self._left = False
        self._writing = asyncio.Lock()  # gRPC cancels a call of which a write is cancelled
        self._task = asyncio.create_task(self._send())

    def cancel(self) -> None:
        self._left = True
        self._task.cancel()
        self.failure()  # asyncio reports an exception that nobody has asked for

    async def end(self) -> None:
        """Write no more requests, and half-close."""
        async with self._writing:
            self._left = True
            self._task.cancel()
            await self._call.done_writing()

    def failure(self) -> BaseException | None:
        """What the requests raised, of which gRPC itself says only that the call was cancelled."""
        if self._task.done() and not self._task.cancelled():
            return self._task.exception()
        return None

    async def _send(self) -> None:
        try:
            async for request in self._requests:
                if not await self._write(request):
                    return
        except BaseException:  # also what awaits something that was cancelled
            if not self._left:
                self._call.cancel()
            raise
        with contextlib.suppress(*_HAS_ENDED):
            async with self._writing:
                await self._call.done_writing()

    async def _write(self, request: Any) -> bool:
        """False if the call has ended; whoever reads it is told why."""
        async with self._writing:
            try:
                await self._call.write(request)
            except _HAS_ENDED:
                return False
        return True


async def _conclude(call: Any, sender: _Sender) -> None:
    """Half-close, and wait for what the server makes of it, for a while."""
    with contextlib.suppress(*_HAS_ENDED, TimeoutError):
        async with asyncio.timeout(LEAVING_S):
            await sender.end()
            async for _ in call:
                pass
