"""Traces: a span for every call through OpenTelemetry's gRPC instrumentation, sent by OTLP.

OpenTelemetry's own `OTEL_` environment variables say where to, which share of the calls, and under
which name. Its packages are imported only here, and only if tracing is on.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

import grpc

from service.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter


@contextmanager
def open_tracing(exporter: "SpanExporter | None" = None) -> Iterator[grpc.aio.ServerInterceptor]:
    """Yield the interceptor to put outermost; on exit, send the spans that were not sent yet.

    They are sent by OTLP over gRPC unless another `exporter` is given. Raises `SettingsError` if
    OpenTelemetry is not installed.
    """
    try:
        otlp = import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
        instrumentation = import_module("opentelemetry.instrumentation.grpc")
        filters = import_module("opentelemetry.instrumentation.grpc.filters")
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(
            "SAYSO_TRACING: needs OpenTelemetry; install the extra `tracing`, or switch it off"
        ) from error
    name = os.environ.get("OTEL_SERVICE_NAME", "sayso")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(exporter or otlp.OTLPSpanExporter()))
    try:
        calls = filters.negate(filters.health_check())
        yield instrumentation.aio_server_interceptor(provider, calls)
    finally:
        provider.shutdown()
