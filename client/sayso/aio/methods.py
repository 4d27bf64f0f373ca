"""Functions that make calls into methods that send them, to be awaited."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable
from types import GenericAlias
from typing import Any, Concatenate, ParamSpec, TypeVar

from sayso.aio.transport import Transport
from sayso.calls import Call, Feed, Pages, Series, Stream, document

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Subject = TypeVar("Subject")
"""Whom a stream is of: a speaker, or several."""

Chunks = AsyncIterable[bytes] | Iterable[bytes]


class Part:
    """What methods are part of: the client itself, or a section of it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport


def method(
    build: Callable[Arguments, Call[Result]],
) -> Callable[Concatenate[Part, Arguments], Coroutine[Any, Any, Result]]:
    async def send(self: Part, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return await self._transport.send(build(*args, **kwargs))

    document(send, build)
    return send


def of_recording(
    build: Callable[Arguments, Call[Result]],
) -> Callable[Concatenate[Part, Arguments], Coroutine[Any, Any, Result]]:
    """Like `method`, of a function that may read a file: in a thread, not on the event loop."""

    async def send(self: Part, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        call = await asyncio.to_thread(build, *args, **kwargs)
        return await self._transport.send(call)

    document(send, build)
    return send


def series(
    build: Callable[Arguments, Series],
) -> Callable[Concatenate[Part, Arguments], Coroutine[Any, Any, None]]:
    async def send(self: Part, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        for call in build(*args, **kwargs):
            await self._transport.send(call)

    document(send, build)
    return send


def paged(
    build: Callable[Arguments, Pages[Result]],
) -> Callable[Concatenate[Part, Arguments], AsyncGenerator[Result, None]]:
    def read(
        self: Part, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> AsyncGenerator[Result, None]:
        return self._transport.read_pages(build(*args, **kwargs))

    document(read, build, returns=_generator)
    return read


def feed(
    build: Callable[Arguments, Feed[Result]],
) -> Callable[Concatenate[Part, Arguments], AsyncGenerator[Result, None]]:
    def follow(
        self: Part, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> AsyncGenerator[Result, None]:
        return self._transport.follow(build(*args, **kwargs))

    document(follow, build, returns=_generator)
    return follow


def live(
    build: Callable[Concatenate[Subject, Arguments], Stream[Result]],
) -> Callable[Concatenate[Part, Subject, Chunks, Arguments], AsyncGenerator[Result, None]]:
    def stream(
        self: Part,
        subject: Subject,
        chunks: Chunks,
        /,
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> AsyncGenerator[Result, None]:
        return self._transport.stream(build(subject, *args, **kwargs), chunks)

    document(
        stream,
        build,
        returns=_generator,
        takes=Chunks,
    )
    return stream


def _generator(result: Any) -> GenericAlias:
    return GenericAlias(AsyncGenerator, (result, None))
