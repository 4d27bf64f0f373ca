"""What the server tells a stranger: reflection, health; and what it never imports."""

import subprocess
import sys
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT, SaysoServer


def test_reflection_describes_the_whole_api(sqlite_server: LocalServer) -> None:
    with grpc.insecure_channel(sqlite_server.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) == {
            "sayso.v1.VerificationService",
            "sayso.v1.SpeakerService",
            "sayso.v1.GroupService",
            "sayso.v1.CallService",
            "sayso.v1.EventService",
            "sayso.v1.ServerService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        pool = descriptor_pool.DescriptorPool(database)
        service = pool.FindServiceByName("sayso.v1.VerificationService")
        verify = service.methods_by_name["Verify"]
        assert [field.name for field in verify.input_type.fields][:3] == [
            "speaker_id",
            "audio_config",
            "audio",
        ]


def test_health_is_told_for_each_service(sqlite_server: LocalServer) -> None:
    with grpc.insecure_channel(sqlite_server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "sayso.v1.VerificationService", "sayso.v1.SpeakerService"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), wait_for_ready=True)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_the_server_imports_no_training_framework() -> None:
    program = (
        "import sys, service.server, service.__main__\n"
        "heavy = {'torch', 'torchaudio', 'librosa', 'matplotlib', 'onnx'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_the_command_line_enrols_and_verifies(sqlite_server: LocalServer) -> None:
    def sayso(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "service", *arguments, "--server", sqlite_server.address],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    assert sayso("enroll", "cli", "demo/audio/rms/enroll-1.flac").returncode == 0
    genuine = sayso("verify", "cli", "demo/audio/rms/verify-1.flac")
    assert "ACCEPTED" in genuine.stdout or "REJECTED" in genuine.stdout
    assert "ENROLLED" in sayso("speakers", "show", "cli").stdout
    assert "cli" in sayso("speakers", "list").stdout
    assert sayso("health").returncode == 0
    assert sayso("speakers", "delete", "cli").returncode == 0
    missing = sayso("speakers", "show", "cli")
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: ")


def test_no_log_names_a_speaker(tmp_path: object) -> None:
    with SaysoServer(store=f"sqlite:///{tmp_path}/sayso.db", log_level="debug") as server:
        with server.client() as sayso:
            sayso.enroll("very-secret-name", (ROOT / "demo/audio/rms/enroll-1.flac"))
            sayso.verify("very-secret-name", (ROOT / "demo/audio/rms/verify-1.flac"))
        log = server.terminate()
    assert "Verify" in log
    assert "very-secret-name" not in log
