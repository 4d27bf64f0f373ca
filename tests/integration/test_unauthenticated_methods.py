"""Callers without a credential take nothing from tenants, and never the place of a probe."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from sayso import NotFound

from service.rpc.reading import MAX_MESSAGE_BYTES
from service.rpc.unauthenticated import MAX_MESSAGE_BYTES as SMALL_BYTES
from tests.support.raw_http2 import RawConnection
from tests.support.sayso_server import SaysoServer

WATCH = "/grpc.health.v1.Health/Watch"
CHECK = "/grpc.health.v1.Health/Check"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
REFLECT_ALPHA = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
VERIFY = "/sayso.v1.VerificationService/Verify"
CONNECTIONS, CALLS = 12, 1000
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SaysoServer]:
    """With default settings, but that its metrics can be read."""
    store = f"sqlite:///{tmp_path_factory.mktemp('strangers') / 'sayso.db'}"
    with SaysoServer(store=store, metrics_listen="127.0.0.1:0") as running:
        yield running


def refused(server: SaysoServer, limit: str) -> float:
    found = re.search(rf'sayso_refused_calls_total{{limit="{limit}"}} (\S+)', server.read_metrics())
    return float(found[1]) if found else 0.0


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.02)


def resident_bytes(server: SaysoServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    [kib] = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kib) * 1024


@contextmanager
def connections(server: SaysoServer, count: int) -> Iterator[list[RawConnection]]:
    with ExitStack() as stack:
        yield [stack.enter_context(RawConnection(server.address)) for _ in range(count)]


def idle(connection: RawConnection, method: str, count: int) -> None:
    """Begins so many calls, each with one empty message, and leaves them open."""
    for _ in range(count):
        connection.send_message(connection.call(method), 0, 0, pause_s=0)


def half_sent(connection: RawConnection, method: str) -> int:
    """A call with all of the largest message but its end; how much of it the server took."""
    stream = connection.call(method)
    return connection.send_message(stream, MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES - 1, pause_s=1.0)


def assert_serving(server: SaysoServer) -> None:
    """Probes and the calls of tenants are answered on a new connection."""
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    with server.client() as sayso, pytest.raises(NotFound):
        sayso.speakers.get("nobody")


@pytest.mark.parametrize(
    ("method", "limit"), [(WATCH, "watch"), (REFLECT, "reflection"), (REFLECT_ALPHA, "reflection")]
)
def test_idle_calls_take_no_place_of_others(server: SaysoServer, method: str, limit: str) -> None:
    before = refused(server, limit)
    with connections(server, CONNECTIONS) as opened:
        for connection in opened:
            idle(connection, method, CALLS // CONNECTIONS)
        wait_until(lambda: refused(server, limit) - before >= CALLS // 2, "ended the oldest calls")
        assert_serving(server)


def test_a_watcher_keeps_its_place_in_a_flood_of_others(server: SaysoServer) -> None:
    before = refused(server, "watch")
    with (
        grpc.insecure_channel(server.address) as channel,
        connections(server, CONNECTIONS) as opened,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watching = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        for connection in opened:
            idle(connection, WATCH, CALLS // CONNECTIONS)
        wait_until(lambda: refused(server, "watch") - before >= CALLS // 2, "ended the oldest")
        assert watching.is_active()
        watching.cancel()


@pytest.mark.parametrize(
    ("method", "count"), [(CHECK, 40), (WATCH, 40), (REFLECT, 130), (REFLECT_ALPHA, 130)]
)
def test_half_sent_messages_take_little_memory(
    server: SaysoServer, method: str, count: int
) -> None:
    """Eight places of 4 MiB, and what the server needs besides."""
    before = resident_bytes(server)
    with connections(server, 10) as opened:
        took = [half_sent(connection, method) for _ in range(count // 10) for connection in opened]
        assert max(took) > MAX_MESSAGE_BYTES - 20_000, "the places were not even filled"
        assert resident_bytes(server) - before < 100 * 2**20
        assert_serving(server)


def test_a_message_of_a_stranger_to_an_own_method_is_not_read(
    tmp_path: Path, server: SaysoServer
) -> None:
    keys = tmp_path / "keys.json"
    keys.touch(mode=0o600)
    keys.write_text('{"keys": [], "certificates": []}', encoding="utf-8")
    with SaysoServer(store=f"sqlite:///{tmp_path / 'sayso.db'}", keys=keys) as locked:
        before = resident_bytes(locked)
        with connections(locked, 10) as opened:
            took = [half_sent(connection, VERIFY) for _ in range(10) for connection in opened]
            assert max(took) <= 256 * 1024
            assert resident_bytes(locked) - before < 50 * 2**20


@pytest.mark.parametrize("size", [SMALL_BYTES + 1, MAX_MESSAGE_BYTES - 100])
def test_messages_of_strangers_are_small(server: SaysoServer, size: int) -> None:
    request = health_pb2.HealthCheckRequest(service="x" * size)
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(request, timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", [REFLECT, REFLECT_ALPHA])
def test_both_versions_of_reflection_tell_of_the_api_and_of_themselves(
    server: SaysoServer, method: str
) -> None:
    def ask(**asked: Any) -> reflection_pb2.ServerReflectionResponse:
        return next(call(iter([reflection_pb2.ServerReflectionRequest(**asked)])))

    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream(
            method,
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        services = ask(list_services="").list_services_response.service
        names = {service.name for service in services}
        assert {"sayso.v1.VerificationService", method.split("/")[1]} <= names
        for name in names:
            assert ask(file_containing_symbol=name).HasField("file_descriptor_response"), name
