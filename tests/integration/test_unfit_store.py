"""A server whose store is not what it was, or not what it must be, says so and stores nothing."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sayso import Unavailable

from tests.support.redis_server import RedisServer
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

_PATIENCE_S = 20.0
SLT, RMS = clips("slt", "enroll")[0], clips("rms", "enroll")[0]


def health(server: SaysoServer) -> tuple[str, str]:
    """What health says, and why."""
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer, call = stub.Check.with_call(health_pb2.HealthCheckRequest(), timeout=10)
    reasons = dict(call.trailing_metadata() or ()).get("sayso-reason", "")
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status), str(reasons)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came true"


def delete(file: Path) -> None:
    file.unlink()


def put_a_copy_in_its_place(file: Path) -> None:
    copy = file.with_name("copy.db")
    copy.write_bytes(file.read_bytes())
    copy.replace(file)


@pytest.mark.parametrize(
    ("lose", "reason"), [(delete, "was deleted"), (put_a_copy_in_its_place, "was replaced")]
)
def test_no_enrolment_is_acknowledged_without_a_file_that_keeps_it(
    lose: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "sayso.db"
    with SaysoServer(store=f"sqlite:///{file}") as server, server.client() as sayso:
        assert health(server) == ("SERVING", "")
        sayso.enroll("slt", SLT)
        lose(file)
        with pytest.raises(Unavailable, match=reason):
            sayso.enroll("rms", RMS)
        until(lambda: health(server)[0] == "NOT_SERVING")
        assert reason in health(server)[1]
        with pytest.raises(Unavailable, match=reason):
            sayso.verify("slt", SLT)
        log = server.terminate()
    assert f"not ready: the store's file {reason}" in log
    assert str(file) in log


def test_a_copy_that_was_put_in_place_is_whole_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "sayso.db"
    server = SaysoServer(store=f"sqlite:///{file}")
    with server, server.client() as sayso:
        sayso.enroll("slt", SLT)
    before = file.read_bytes()
    with server, server.client() as sayso:
        sayso.enroll("rms", RMS)
        file.with_name("backup.db").write_bytes(before)
        file.with_name("backup.db").replace(file)
        until(lambda: health(server)[0] == "NOT_SERVING")
        server.kill()
    with server, server.client() as sayso:
        assert [each.speaker_id for each in sayso.speakers.list()] == ["slt"]
        sayso.enroll("rms", RMS)
    with SaysoServer(store=f"sqlite:///{file}") as again, again.client() as sayso:
        assert {each.speaker_id for each in sayso.speakers.list()} == {"slt", "rms"}


def test_a_replica_is_not_served_from(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("master", "replica")]
    for folder in folders:
        folder.mkdir()
    with RedisServer(folders[0]) as master:
        replica = RedisServer(folders[1], "--replicaof", f"127.0.0.1 {master.port}")
        with replica, SaysoServer(store=replica.url) as server, server.client() as sayso:
            state, why = health(server)
            assert (state, "replica" in why) == ("NOT_SERVING", True)
            with pytest.raises(Unavailable, match=r"is a replica.*address of the master"):
                sayso.speakers.get("slt")
            replica.command("REPLICAOF", "NO", "ONE")
            until(lambda: health(server) == ("SERVING", ""))
            sayso.enroll("slt", SLT)


def test_credentials_of_the_store_are_in_no_reply_and_no_log(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        redis.command("ACL", "SETUSER", "svc", "on", ">s3cret", "~sayso:*", "+@all", "-eval")
        url = f"redis://svc:s3cret@127.0.0.1:{redis.port}/0"
        with SaysoServer(store=url) as server, server.client() as sayso:
            state, why = health(server)
            assert (state, "users.acl" in why) == ("NOT_SERVING", True)
            with pytest.raises(Unavailable, match=r"denies its user.*users\.acl") as refused:
                sayso.enroll("slt", SLT)
            log = server.terminate()
    assert "s3cret" not in f"{why}{refused.value}{log}"
