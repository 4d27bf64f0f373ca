"""Calls on a gRPC channel, from threads."""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

import grpc

from sayso import health
from sayso.calls import Call, Feed, Pages, Service, Stream
from sayso.connection import LEAVING_S, RESUME_S, Target
from sayso.errors import Unavailable
from sayso.statuses import REQUEST_ID_KEY, make_error

Result = TypeVar("Result")


class Transport:
    """Any number of threads may use it at once; raises the classes of `sayso.errors`."""

    def __init__(self, target: Target, *, timeout_s: float, request_ids: Callable[[], str]) -> None:
        self._channel = target.open(grpc)
        self._metadata = target.metadata
        self._timeout_s = timeout_s
        self._request_ids = request_ids
        self._stubs: dict[Service, Any] = {}
        self._check = health.open_check(self._channel)

    def close(self) -> None:
        self._channel.close()

    def send(self, call: Call[Result]) -> Result:
        method, metadata, request_id = self._prepare(call.service, call.rpc)
        timeout_s = self._timeout_s if call.timeout_s is None else call.timeout_s
        try:
            response = method(call.request, timeout=timeout_s, metadata=metadata)
            if call.streamed:
                *_, response = response
        except grpc.RpcError as error:
            raise make_error(error, request_id) from error
        return call.read(response)

    def read_pages(self, pages: Pages[Result]) -> Generator[Result, None, None]:
        while True:
            page = self.send(Call(pages.service, pages.rpc, pages.request, lambda page: page))
            yield from pages.read(page)
            if not page.next_page_token:
                return
            pages.request.page_token = page.next_page_token

    def stream(
        self, stream: Stream[Result], chunks: Iterable[bytes]
    ) -> Generator[Result, None, None]:
        responses = self.exchange(
            stream.service, stream.rpc, stream.requests(chunks), concludes=stream.concludes
        )
        with contextlib.closing(responses):
            for response in responses:
                yield stream.read(response)

    def follow(self, feed: Feed[Result]) -> Generator[Result, None, None]:
        """Yield what comes, over any number of connections once the first has answered."""
        answered = False
        while True:
            method, metadata, request_id = self._prepare(feed.service, feed.rpc)
            call = method(feed.request, metadata=metadata)
            try:
                for response in call:
                    answered, feed.request.resume_token = True, response.resume_token
                    if (result := feed.read(response)) is not None:
                        yield result
            except grpc.RpcError as error:
                failure = make_error(error, request_id)
                if not (answered and isinstance(failure, Unavailable)):
                    raise failure from error
            finally:
                call.cancel()
            time.sleep(RESUME_S)

    def exchange(
        self, service: Service, rpc: str, requests: Iterator[Any], *, concludes: bool = False
    ) -> Generator[Any, None, None]:
        """Yield the responses while gRPC sends the requests from a thread of its own."""
        method, metadata, request_id = self._prepare(service, rpc)
        outgoing = _Outgoing(requests)
        call = method(iter(outgoing), metadata=metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            if outgoing.error is not None:
                raise outgoing.error from None
            raise make_error(error, request_id) from error
        except GeneratorExit:
            if concludes:
                outgoing.end()
                _conclude(call)
            raise
        finally:
            call.cancel()

    def why_not_ready(self) -> str:
        try:
            reply, call = self._check.with_call(
                health.REQUEST, timeout=self._timeout_s, metadata=self._metadata
            )
        except grpc.RpcError as error:
            return health.explain_error(error)
        return health.explain(reply, call.trailing_metadata())

    def _prepare(self, service: Service, rpc: str) -> tuple[Any, Any, str]:
        """The method of a stub, the metadata of a call, and the request id in it."""
        if service not in self._stubs:
            self._stubs[service] = service(self._channel)
        request_id = self._request_ids()
        metadata = (*self._metadata, (REQUEST_ID_KEY, request_id))
        return getattr(self._stubs[service], rpc), metadata, request_id


class _Outgoing:
    """Requests as gRPC takes them, until they end or `end` is called; `error` is what they raised,
    of which gRPC itself says only that the call failed."""

    def __init__(self, requests: Iterator[Any]) -> None:
        self.error: Exception | None = None
        self._requests = requests
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()

    def __iter__(self) -> Iterator[Any]:
        try:
            for request in self._requests:
                if self._ended.is_set():
                    return
                yield request
        except Exception as error:  # not the GeneratorExit of a call that the server has ended
            self.error = error
            raise


def _conclude(call: Any) -> None:
    """Wait for the end of a stream whose requests end; cancels it if it takes too long, e.g.
    since no chunk comes that would show the sender that it is left."""
    impatience = threading.Timer(LEAVING_S, call.cancel)
    impatience.start()
    with contextlib.suppress(grpc.RpcError):
        for _ in call:
            pass
    impatience.cancel()
