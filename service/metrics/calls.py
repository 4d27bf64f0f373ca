"""Calls, counted under the names of go-grpc-prometheus, which its dashboards and alerts use."""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from google.protobuf import descriptor_pool

from service.ending import Context, ended
from service.metrics import HANDLED, HANDLING_S, OPEN, STARTED

_TYPES = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


@asynccontextmanager
async def counted(name: str, context: Context) -> AsyncIterator[None]:
    """A guard: the call of method `name`, `/package.Service/Method`, from its start to its end."""
    labels = _labels(name)

    def tell(code: grpc.StatusCode, seconds: float) -> None:
        OPEN.labels(*labels).dec()
        HANDLED.labels(*labels, _CODES[code]).inc()
        HANDLING_S.labels(*labels).observe(seconds)

    STARTED.labels(*labels).inc()
    OPEN.labels(*labels).inc()
    async with ended(context, tell):
        yield


_CODES = {
    code: "".join("OK" if part == "OK" else part.capitalize() for part in code.name.split("_"))
    for code in grpc.StatusCode
}
"""As Go writes them: OK, InvalidArgument. Of Canceled it has one l less."""
_CODES[grpc.StatusCode.CANCELLED] = "Canceled"


@functools.cache
def _labels(name: str) -> tuple[str, str, str]:
    """Type, service and method."""
    service, method = name.removeprefix("/").split("/")
    found = descriptor_pool.Default().FindMethodByName(f"{service}.{method}")
    return _TYPES[found.client_streaming, found.server_streaming], service, method
