"""Count calls under the metric names of go-grpc-prometheus, for which dashboards and alerts
exist."""

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
    """A guard: counts a call of method `name`, `/package.Service/Method`, from start to end."""
    started, open_, handling_s = _get_series(name)

    def report(code: grpc.StatusCode, seconds: float) -> None:
        open_.dec()
        _get_handled(name, code).inc()
        handling_s.observe(seconds)

    started.inc()
    open_.inc()
    with report_ending(context, report):
        yield


_CODES = {
    code: "".join("OK" if part == "OK" else part.capitalize() for part in code.name.split("_"))
    for code in grpc.StatusCode
}
"""Status codes as Go writes them: OK, InvalidArgument; Canceled has one l there."""
_CODES[grpc.StatusCode.CANCELLED] = "Canceled"


@functools.cache
def _get_series(name: str) -> tuple[Counter, Gauge, Histogram]:
    """Get the series of a method; cached, as looking them up takes longer than counting."""
    labels = _make_labels(name)
    return STARTED.labels(*labels), OPEN.labels(*labels), HANDLING_S.labels(*labels)


@functools.cache
def _get_handled(name: str, code: grpc.StatusCode) -> Counter:
    return HANDLED.labels(*_make_labels(name), _CODES[code])


@functools.cache
def _make_labels(name: str) -> tuple[str, str, str]:
    """Make the labels of a method: type, service and method."""
    service, method = name.removeprefix("/").split("/")
    descriptor = descriptor_pool.Default().FindMethodByName(f"{service}.{method}")
    return _TYPES[descriptor.client_streaming, descriptor.server_streaming], service, method
