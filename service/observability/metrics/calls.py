"""Calls, counted under the names of go-grpc-prometheus, which its dashboards and alerts use."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.protobuf import descriptor_pool
from prometheus_client import Counter, Gauge, Histogram

from service.observability.logs import Context, report_ending
from service.observability.metrics import HANDLED, HANDLING_S, OPEN, STARTED

_TYPES = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


@contextmanager
def count_calls(name: str, context: Context) -> Iterator[None]:
    """A guard: the call of method `name`, `/package.Service/Method`, from its start to its end."""
    started, open_, handling_s = _series(name)

    def report(code: grpc.StatusCode, seconds: float) -> None:
        open_.dec()
        _handled(name, code).inc()
        handling_s.observe(seconds)

    started.inc()
    open_.inc()
    with report_ending(context, report):
        yield


_CODES = {
    code: "".join("OK" if part == "OK" else part.capitalize() for part in code.name.split("_"))
    for code in grpc.StatusCode
}
"""As Go writes them: OK, InvalidArgument. Of Canceled it has one l less."""
_CODES[grpc.StatusCode.CANCELLED] = "Canceled"


@functools.cache
def _series(name: str) -> tuple[Counter, Gauge, Histogram]:
    """Of a method; to look them up takes longer than to count."""
    labels = _labels(name)
    return STARTED.labels(*labels), OPEN.labels(*labels), HANDLING_S.labels(*labels)


@functools.cache
def _handled(name: str, code: grpc.StatusCode) -> Counter:
    return HANDLED.labels(*_labels(name), _CODES[code])


@functools.cache
def _labels(name: str) -> tuple[str, str, str]:
    """Type, service and method."""
    service, method = name.removeprefix("/").split("/")
    found = descriptor_pool.Default().FindMethodByName(f"{service}.{method}")
    return _TYPES[found.client_streaming, found.server_streaming], service, method
