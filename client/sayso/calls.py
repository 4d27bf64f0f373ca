"""What a client asks of a server, apart from how it is sent.

voices, speakers, groups, announcements ─> Call, Series, Pages, Stream ─┬─> blocking ─> server
events ─> Feed ─────────────────────────────────────────────────────────┴─> aio ──────> server

Each function of those modules makes one of these. `Client` and `AsyncClient` have a method for
each, and differ only in how they send it.
"""

import functools
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

from sayso.recordings import Collector

Result = TypeVar("Result")

Service = Callable[[Any], Any]
"""A generated stub class: of a channel, the methods of a service."""

_POSITIONAL = inspect.Parameter.POSITIONAL_ONLY


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """One request and its answer. If `streamed`, `request` is an iterable of several, and the last
    response is the answer. `timeout_s` None is the client's own."""

    service: Service
    rpc: str
    request: Any
    read: Callable[[Any], Result]
    streamed: bool = False
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Requests that are sent one after the other, up to the first that fails."""

    service: Service
    rpc: str
    requests: Iterable[Any]

    def __iter__(self) -> Iterator[Call[None]]:
        for request in self.requests:
            yield Call(self.service, self.rpc, request, lambda response: None)


@dataclass(frozen=True, slots=True)
class Pages(Generic[Result]):
    """A list that is read page by page; `request` has the `page_token` of the next."""

    service: Service
    rpc: str
    request: Any
    read: Callable[[Any], Iterable[Result]]


@dataclass(frozen=True, slots=True)
class Stream(Generic[Result]):
    """A live call: the `first` request, then one for each message of audio; responses as they come.

    If it `concludes`, a caller who leaves lets the server conclude on what it has heard; otherwise
    leaving cancels the call.
    """

    service: Service
    rpc: str
    first: Any
    request: Callable[[bytes], Any]
    read: Callable[[Any], Result]
    collector: Collector
    concludes: bool = False

    def requests(self, chunks: Iterable[bytes]) -> Iterator[Any]:
        yield self.first
        for chunk in chunks:
            yield from map(self.request, self.collector.add(chunk))
        yield from map(self.request, self.collector.rest())

    async def requests_as_they_come(
        self, chunks: AsyncIterable[bytes] | Iterable[bytes]
    ) -> AsyncIterator[Any]:
        yield self.first
        async for chunk in iterate(chunks):
            for audio in self.collector.add(chunk):
                yield self.request(audio)
        for audio in self.collector.rest():
            yield self.request(audio)


@dataclass(frozen=True, slots=True)
class Feed(Generic[Result]):
    """Responses that come for as long as the client listens; `request` has the `resume_token` of
    the last one, from which another server goes on when a connection is lost. Responses of which
    `read` makes None only have a newer token."""

    service: Service
    rpc: str
    request: Any
    read: Callable[[Any], Result | None]


async def iterate(values: AsyncIterable[Result] | Iterable[Result]) -> AsyncIterator[Result]:
    """Iterate over either kind."""
    if isinstance(values, AsyncIterable):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value


def document(
    method: Any,
    build: Callable[..., Any],
    returns: Callable[[Any], Any] = lambda result: result,
    takes: Any = None,
) -> None:
    """Give a method the documentation of the function that makes its call, and its signature.

    It returns what `returns` makes of the result's type, e.g. of the Speaker in a Call[Speaker];
    if it `takes` chunks, they are its second argument.
    """
    functools.update_wrapper(method, build)
    signature = inspect.signature(build)
    parameters = [inspect.Parameter("self", _POSITIONAL), *signature.parameters.values()]
    if takes is not None:
        first = parameters[1].replace(kind=_POSITIONAL)
        parameters[1:2] = first, inspect.Parameter("chunks", _POSITIONAL, annotation=takes)
    (result,) = get_args(signature.return_annotation) or (None,)
    method.__signature__ = inspect.Signature(parameters, return_annotation=returns(result))
