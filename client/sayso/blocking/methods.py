"""Functions that make calls into methods that send them and wait."""

from collections.abc import Callable, Generator, Iterable
from types import GenericAlias
from typing import Any, Concatenate, ParamSpec, TypeVar

from sayso.blocking.transport import Transport
from sayso.calls import Call, Feed, Pages, Series, Stream, document

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Subject = TypeVar("Subject")
"""Whom a stream is of: a speaker, or several."""


class Part:
    """What methods are part of: the client itself, or a section of it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport


def method(
    build: Callable[Arguments, Call[Result]],
) -> Callable[Concatenate[Part, Arguments], Result]:
    def send(self: Part, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self._transport.send(build(*args, **kwargs))

    document(send, build)
    return send


def series(build: Callable[Arguments, Series]) -> Callable[Concatenate[Part, Arguments], None]:
    def send(self: Part, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        for call in build(*args, **kwargs):
            self._transport.send(call)

    document(send, build)
    return send


def paged(
    build: Callable[Arguments, Pages[Result]],
) -> Callable[Concatenate[Part, Arguments], Generator[Result, None, None]]:
    def read(
        self: Part, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Generator[Result, None, None]:
        return self._transport.read_pages(build(*args, **kwargs))

    document(read, build, returns=_generator)
    return read


def feed(
    build: Callable[Arguments, Feed[Result]],
) -> Callable[Concatenate[Part, Arguments], Generator[Result, None, None]]:
    def follow(
        self: Part, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Generator[Result, None, None]:
        return self._transport.follow(build(*args, **kwargs))

    document(follow, build, returns=_generator)
    return follow


def live(
    build: Callable[Concatenate[Subject, Arguments], Stream[Result]],
) -> Callable[
    Concatenate[Part, Subject, Iterable[bytes], Arguments], Generator[Result, None, None]
]:
    def stream(
        self: Part,
        subject: Subject,
        chunks: Iterable[bytes],
        /,
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Generator[Result, None, None]:
        return self._transport.stream(build(subject, *args, **kwargs), chunks)

    document(
        stream,
        build,
        returns=_generator,
        takes=Iterable[bytes],
    )
    return stream


def _generator(result: Any) -> GenericAlias:
    return GenericAlias(Generator, (result, None, None))
