"""Several processes behind one port: they share it, and die and end in order."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile
from sayso import RawAudio

from tests.support.sayso_server import SaysoServer, ServerFailed
from tests.support.voices import clips

PATIENCE_S = 30.0
MESSAGE_SAMPLES = 1600
_LISTENING = "0A"  # in /proc/net/tcp


def _children(pid: int) -> set[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return {int(child) for child in listed.split()}


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def _takes_connections(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def _listening(pid: int, address: str) -> bool:
    """Whether the process has a socket that listens on that port."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]
    ]
    sockets = {
        f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == _LISTENING
    }
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held.add(str(descriptor.readlink()))
        except OSError:  # closed meanwhile
            continue
    return bool(sockets & held)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SaysoServer]:
    folder = tmp_path_factory.mktemp("workers")
    with SaysoServer(store=f"sqlite:///{folder / 'sayso.db'}", workers=2) as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[SaysoServer]:
    """A server of the test's own, to be stopped."""
    with SaysoServer(store=f"sqlite:///{tmp_path / 'sayso.db'}", workers=2) as running:
        yield running


def test_workers_share_port_and_store(server: SaysoServer) -> None:
    workers = _children(server.process.pid)
    assert len(workers) == 2
    assert all(_listening(worker, server.address) for worker in workers)
    assert not _listening(server.process.pid, server.address)
    with server.client() as one:
        one.enroll("slt", clips("slt", "enroll")[0])
    for _ in range(8):  # connections of their own: on either worker
        with server.client() as other:
            assert other.verify("slt", clips("slt", "verify")[0]).llr is not None


def test_a_worker_that_dies_is_replaced(server: SaysoServer) -> None:
    first, second = _children(server.process.pid)
    os.kill(first, signal.SIGKILL)
    _until(lambda: len(_children(server.process.pid) - {first}) == 2, "two workers again")
    (new,) = _children(server.process.pid) - {first, second}
    _until(lambda: _listening(new, server.address), "the new one listens")
    os.kill(second, signal.SIGKILL)
    _until(lambda: second not in _children(server.process.pid), "the old one has ended")
    with server.client() as sayso:
        assert sayso.ready()
    assert f"process {first}, died with status -9" in server.log


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_others_serve_on_is_refused(server: SaysoServer, workers: int) -> None:
    other = SaysoServer(store="sqlite:////nowhere", listen=server.address, workers=workers)
    with pytest.raises(ServerFailed, match="is another server running there"), other:
        pass
    assert other.process.returncode == 2


def test_calls_in_flight_are_finished(fresh: SaysoServer) -> None:
    samples, rate = soundfile.read(clips("slt", "verify")[0], dtype="int16")
    workers, hung_up = _children(fresh.process.pid), threading.Event()

    def talk() -> Iterator[bytes]:
        for start in range(0, samples.size, MESSAGE_SAMPLES):
            yield samples[start : start + MESSAGE_SAMPLES].tobytes()
        hung_up.wait(PATIENCE_S)

    with fresh.client() as sayso:
        sayso.enroll("slt", clips("slt", "enroll")[0])
        results = sayso.verify_stream("slt", talk(), raw=RawAudio("LINEAR16", rate))
        next(results)
        fresh.process.terminate()
        _until(lambda: not _takes_connections(fresh.address), "the port is closed")
        hung_up.set()
        *_, last = results
    assert last.llr is not None
    assert "Traceback" not in fresh.terminate()
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_workers_end_with_a_parent_that_is_killed(fresh: SaysoServer) -> None:
    workers = _children(fresh.process.pid)
    fresh.kill()
    _until(lambda: not any(Path(f"/proc/{each}").exists() for each in workers), "no orphans")


def test_workers_that_cannot_start_say_why(tmp_path: Path) -> None:
    failing = SaysoServer(store=f"sqlite:///{tmp_path / 'no' / 'sayso.db'}", workers=2)
    with pytest.raises(ServerFailed) as caught, failing:
        pass
    assert failing.process.returncode == 2
    assert "does not exist: create it" in str(caught.value)
    assert str(caught.value).count("error: ") == 2  # the worker's, and that it was the worker's
