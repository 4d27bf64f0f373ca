"""Bytes that are no message of the request's type: refused inside the guards, as what they are.

gRPC would refuse them before any guard, as UNKNOWN and with a traceback in the log.
"""

import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from service.errors import InvalidArgument

_OURS = "/sayso."
_ILLEGIBLE = object()


class Legible(grpc.aio.ServerInterceptor):
    """Belongs innermost; raises `InvalidArgument` there."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(_OURS):
            return handler
        read = _Stream if handler.request_streaming else _legible
        kinds = ("unary", "stream")
        field = f"{kinds[handler.request_streaming]}_{kinds[handler.response_streaming]}"
        wrap = _streaming if handler.response_streaming else _unary
        return handler._replace(
            request_deserializer=_or_illegible(handler.request_deserializer),
            **{field: wrap(getattr(handler, field), read)},
        )


class _Stream:
    """Requests as they come."""

    def __init__(self, requests: AsyncIterator[Any]) -> None:
        self._requests = aiter(requests)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return _legible(await anext(self._requests))


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
