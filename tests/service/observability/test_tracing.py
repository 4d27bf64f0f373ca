import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from sayso.v1 import verification_pb2 as pb

from service.errors import NotFound, SettingsError
from service.observability.tracing import open_tracing
from service.rpc.interceptors import GuardInterceptor
from service.rpc.reading import Reading
from service.rpc.reflection import add_reflection
from service.rpc.unauthenticated import UnauthenticatedMethods
from tests.support.scripted_server import ScriptedService, open_stub

VERIFY = "/sayso.v1.VerificationService/Verify"
TRACE = "0af7651916cd43dd8448eb211c80319c"


async def refuse() -> None:
    raise NotFound("there is no such speaker")


async def test_a_call_is_a_span_of_its_callers_trace() -> None:
    exporter = InMemorySpanExporter()
    parent = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
    reading = Reading(max_pause_s=10.0, tenant=lambda: "bank")
    with open_tracing(exporter) as interceptor:
        async with open_stub(ScriptedService(), interceptor, reading) as stub:
            await stub.Verify(pb.VerifyRequest(speaker_id="alice"), metadata=parent)
            assert (
                len(
                    [
                        each
                        async for each in stub.StreamingEnroll(iter([pb.StreamingEnrollRequest()]))
                    ]
                )
                == 1
            )
    verify, enroll = exporter.get_finished_spans()
    assert (verify.name, verify.kind) == (VERIFY, SpanKind.SERVER)
    assert f"{verify.context.trace_id:032x}" == TRACE
    assert enroll.name == "/sayso.v1.VerificationService/StreamingEnroll"
    assert verify.resource.attributes["service.name"] == "sayso"
    assert "alice" not in verify.to_json()


async def test_a_failed_call_is_a_span_with_its_status() -> None:
    exporter = InMemorySpanExporter()
    with open_tracing(exporter) as interceptor:
        async with open_stub(
            ScriptedService(refuse), interceptor, GuardInterceptor(watching=(), admitting=())
        ) as stub:
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Verify(pb.VerifyRequest())
    span: ReadableSpan = exporter.get_finished_spans()[0]
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]


def test_the_service_name_is_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "voices-east")
    exporter = InMemorySpanExporter()
    with open_tracing(exporter) as interceptor, interceptor._tracer.start_as_current_span("x"):  # type: ignore[attr-defined]
        pass
    [span] = exporter.get_finished_spans()
    assert span.resource.attributes["service.name"] == "voices-east"


def test_without_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(SettingsError, match="extra `tracing`"), open_tracing():
        pass


def test_nothing_of_it_is_imported_while_it_is_off() -> None:
    name = "opentelemetry.instrumentation"  # redis-py imports the rest where it is installed
    code = (
        f"import service.server, service.observability.tracing, sys\nprint({name!r} in sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert told.stdout.strip() == "False"


async def test_a_limited_method_of_strangers_is_traced_as_well() -> None:
    exporter = InMemorySpanExporter()
    with open_tracing(exporter) as interceptor:
        strangers = UnauthenticatedMethods(count_refusal=lambda limit: None)
        server = grpc.aio.server(interceptors=(strangers, interceptor))
        add_reflection(server, [])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            ask = channel.stream_stream(
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString,
            )
            for _ in range(2):
                asked = reflection_pb2.ServerReflectionRequest(list_services="")
                [told] = [each async for each in ask(iter([asked]))]
                assert len(told.list_services_response.service) == 2
        await server.stop(None)
    assert len(exporter.get_finished_spans()) == 2
