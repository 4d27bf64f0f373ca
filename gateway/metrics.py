"""Metrics of the gateway, which Prometheus reads from a listener of their own.

No label names a tenant, a call or a speaker.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)
from sayso import SettingsError

from gateway.settings import PREFIX, parse_address

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

CONNECTOR: ContextVar[str] = ContextVar("connector", default="other")
"""By which connector the connection of this task came: the first part of its path, or the name of
its listener."""

_CONNECTOR = ("connector",)
_ENDPOINT = ("endpoint",)
_LAG_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 36000, 86400, 259200)

OPEN_CALLS = Gauge("sayso_gateway_open_calls", "Calls in progress.", _CONNECTOR, registry=REGISTRY)
CALLS = Counter(
    "sayso_gateway_calls",
    "Calls that ended, by the last outcome; undecided is without any.",
    (*_CONNECTOR, "ending"),
    registry=REGISTRY,
)
REFUSED_CALLS = Counter(
    "sayso_gateway_refused_calls",
    "Connections and calls that were not taken, by reason.",
    (*_CONNECTOR, "reason"),
    registry=REGISTRY,
)
LOST_FRAMES = Counter(
    "sayso_gateway_lost_frames",
    "Frames that never came, of platforms that count them.",
    _CONNECTOR,
    registry=REGISTRY,
)
REORDERED_FRAMES = Counter(
    "sayso_gateway_reordered_frames",
    "Frames that came before an earlier one, or too late.",
    _CONNECTOR,
    registry=REGISTRY,
)
WEBHOOK_ATTEMPTS = Counter(
    "sayso_gateway_webhook_attempts",
    "Attempts to deliver an event, by result: delivered, postponed, failed or gone.",
    (*_ENDPOINT, "result"),
    registry=REGISTRY,
)
WEBHOOK_LAG_S = Histogram(
    "sayso_gateway_webhook_lag_seconds",
    "Seconds from an event's arrival to its delivery.",
    _ENDPOINT,
    buckets=_LAG_S,
    registry=REGISTRY,
)
WEBHOOK_OLDEST_S = Gauge(
    "sayso_gateway_webhook_oldest_seconds",
    "Seconds that the oldest undelivered event has waited.",
    _ENDPOINT,
    registry=REGISTRY,
)
WEBHOOK_PENDING = Gauge(
    "sayso_gateway_webhook_pending_events",
    "Events that wait for delivery.",
    _ENDPOINT,
    registry=REGISTRY,
)
REQUEST_S = Histogram(
    "sayso_gateway_request_seconds",
    "Seconds of a REST request, by rpc and HTTP code.",
    ("rpc", "code"),
    registry=REGISTRY,
)


@contextmanager
def serve_metrics(listen: str | None) -> Iterator[str | None]:
    """Serve metrics at `http://host:port/metrics`, if that is on; yields host:port.

    Raises `SettingsError` for an address that cannot be listened on.
    """
    if listen is None:
        yield None
        return
    host, port = parse_address(listen)
    try:
        server, thread = start_http_server(port, host, REGISTRY)
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}METRICS_LISTEN: cannot listen on {listen}: {error.strerror}"
        ) from error
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def count_call(find_outcome: Callable[[], str | None]) -> Iterator[None]:
    """Count a call while it is open, and by its outcome when it ends."""
    connector = CONNECTOR.get()
    OPEN_CALLS.labels(connector).inc()
    try:
        yield
    finally:
        OPEN_CALLS.labels(connector).dec()
        CALLS.labels(connector, find_outcome() or "undecided").inc()


def count_refusal(reason: str) -> None:
    """Count a connection or call that was not taken."""
    REFUSED_CALLS.labels(CONNECTOR.get(), reason).inc()


@contextmanager
def time_request() -> Iterator[dict[str, str]]:
    """Time a REST request, of the rpc and code that are put into the dictionary."""
    labels, began_s = {"rpc": "none", "code": "500"}, time.perf_counter()
    try:
        yield labels
    finally:
        REQUEST_S.labels(**labels).observe(time.perf_counter() - began_s)
