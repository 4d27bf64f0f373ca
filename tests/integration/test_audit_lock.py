"""A trail that another process keeps locked: calls end, health says so, and the server stops."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sayso import Unavailable

from tests.support.sayso_server import SaysoServer, ServerFailed
from tests.support.voices import clips

PATIENCE_S = 20.0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    with (folder / "audit.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SaysoServer]:
    with SaysoServer(store=f"sqlite:///{tmp_path}/sayso.db", audit=tmp_path / "audit") as running:
        yield running


def test_calls_end_and_health_follows(server: SaysoServer, tmp_path: Path) -> None:
    voice = clips("slt", "enroll")[0]
    with server.client() as sayso:
        with locked(tmp_path / "audit"):
            with pytest.raises(Unavailable, match="another process keeps its lock"):
                sayso.enroll("slt", voice)
            until(lambda: not sayso.ready(), "not ready")
            assert "another process keeps its lock" in sayso.why_not_ready()
        until(sayso.ready, "ready again")
        sayso.enroll("slt", voice)
    assert "not ready: the audit trail cannot be written" in server.log
    assert '"action":"lost"' in (tmp_path / "audit" / "audit-000001.jsonl").read_text()


def test_the_server_stops_all_the_same(server: SaysoServer, tmp_path: Path) -> None:
    with locked(tmp_path / "audit"), server.client() as sayso:
        with pytest.raises(Unavailable):
            sayso.speakers.delete("nobody")
        server.terminate()


def test_a_server_that_cannot_begin_a_trail_says_so(server: SaysoServer, tmp_path: Path) -> None:
    other = SaysoServer(store=f"sqlite:///{tmp_path}/other.db", audit=tmp_path / "audit")
    with locked(tmp_path / "audit"), pytest.raises(ServerFailed, match="keeps its lock"), other:
        pass
    assert other.process.returncode == 2
