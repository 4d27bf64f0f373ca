"""Stores of every kind, each on a real server or a real file."""

import contextlib
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from service.store import Speaker, SpeakerState, Store, Voiceprint, open_store
from tests.support.redis_server import RedisServer, free_port

MakeSpeaker = Callable[..., Speaker]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def sentinel(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("sentinel")
    config = folder / "sentinel.conf"
    config.write_text(f"sentinel monitor voices 127.0.0.1 {redis_server.port} 1\n")
    with RedisServer(folder, str(config), "--sentinel") as server:
        yield server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Three masters that share the slots."""
    with contextlib.ExitStack() as running:
        buses = [free_port() for _ in range(3)]
        nodes = [
            running.enter_context(
                RedisServer(
                    tmp_path_factory.mktemp("cluster"),
                    *("--cluster-enabled", "yes", "--cluster-port", str(bus), "--save", ""),
                )
            )
            for bus in buses
        ]
        ranges = [("0", "5460"), ("5461", "10922"), ("10923", "16383")]
        for node, slots in zip(nodes, ranges, strict=True):
            node.command("CLUSTER", "ADDSLOTSRANGE", *slots)
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            nodes[0].command("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(bus))
        deadline = time.monotonic() + 20.0
        while not all(_knows_all_slots(node) for node in nodes):
            assert time.monotonic() < deadline, "the cluster did not form"
            time.sleep(0.05)
        yield nodes


def _knows_all_slots(node: RedisServer) -> bool:
    info = node.command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_slots_ok:16384" in info


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of a server that speaks TLS only, and the certificate to trust."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on PATH")
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=sayso"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    options = (
        *("--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", key),
        *("--tls-ca-cert-file", certificate, "--tls-auth-clients", "no", "--save", ""),
    )
    with RedisServer(tmp_path, *options):
        yield f"rediss://127.0.0.1:{port}", certificate


@pytest.fixture(params=["sqlite", "redis", "sentinel", "cluster"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/voices.db"
    if request.param == "cluster":
        nodes: list[RedisServer] = request.getfixturevalue("cluster")
        return f"redis+cluster://127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port}"
    if request.param == "sentinel":
        server: RedisServer = request.getfixturevalue("sentinel")
        return f"redis+sentinel://127.0.0.1:{server.port}/voices"
    server = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
async def store(address: str) -> AsyncIterator[Store]:
    async with open_store(address, timeout_s=10.0) as opened:
        yield opened


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test has used: the servers outlive a test."""
    return f"tenant-{uuid.uuid4()}"


@pytest.fixture
def make_speaker(tenant: str) -> MakeSpeaker:
    def make(
        speaker_id: str = "alice", *, vectors: int = 1, dim: int = 4, **fields: object
    ) -> Speaker:
        rng = np.random.default_rng(0)
        voiceprint = Voiceprint(
            model_id="model-a",
            vectors=rng.standard_normal((vectors, dim), dtype=np.float32),
            speech_s=rng.random(vectors, dtype=np.float32),
            created_at=1_700_000_000.25,
        )
        defaults: dict[str, object] = {
            "tenant": tenant,
            "speaker_id": speaker_id,
            "state": SpeakerState.ENROLLED,
            "voiceprints": {voiceprint.model_id: voiceprint},
            "created_at": 1_700_000_000.25,
            "updated_at": 1_700_000_001.5,
        }
        return Speaker(**(defaults | fields))  # type: ignore[arg-type]

    return make
