"""The server as a process: what service managers, containers and operators do to it."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.sayso_server import ROOT, SaysoServer
from tests.support.voices import clips

PATIENCE_S = 30.0
CPU = Path("/sys/fs/cgroup/cpu")


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def children(pid: int) -> set[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return {int(child) for child in listed.split()}


def scraped(log: str) -> str:
    (address,) = re.findall(r"metrics at (http://\S+)", log)
    with urllib.request.urlopen(address, timeout=5) as reply:  # noqa: S310 - our own server
        return str(reply.read().decode())


def test_sigterm_ends_process_1_that_is_still_starting(tmp_path: Path) -> None:
    """Process 1 of a PID namespace gets no signal that it has no handler for."""
    begin = ["unshare", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*begin, "true"], capture_output=True, check=False).returncode:
        pytest.skip("PID namespaces cannot be made here")
    process = subprocess.Popen(
        [*begin, sys.executable, "-m", "service", "serve", "--listen", "127.0.0.1:0"],
        cwd=ROOT,
        env={**os.environ, "SAYSO_STORE": f"sqlite:///{tmp_path}/sayso.db"},
        stdout=subprocess.PIPE,
    )
    try:
        until(lambda: bool(children(process.pid)), "process 1 is there")
        (first,) = children(process.pid)
        maps = Path(f"/proc/{first}/maps")
        until(lambda: "grpc" in maps.read_text(), "it has begun to import")
        os.kill(first, signal.SIGTERM)
        until(lambda: process.poll() is not None, "it has ended")
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert b"serving" not in said
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_does_not_end_it(tmp_path: Path, workers: int) -> None:
    store = f"sqlite:///{tmp_path}/sayso.db"
    with SaysoServer(store=store, workers=workers) as server, server.client() as sayso:
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "SIGHUP" in server.log, "told in the log")
        assert sayso.ready()


@pytest.mark.parametrize("workers", [1, 2])
def test_modules_of_the_working_directory_are_not_run(tmp_path: Path, workers: int) -> None:
    for name in ("redis", "grpc", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('ran {name}.py')\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--listen", "127.0.0.1:0"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}",
            "SAYSO_STORE": f"sqlite:///{tmp_path}/sayso.db",
            "SAYSO_WORKERS": str(workers),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("serving on "):
            break
    process.terminate()
    process.communicate(timeout=PATIENCE_S)
    assert "serving on " in said, said
    assert process.returncode == 0


def test_workers_outlive_the_folder_of_their_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    store = f"sqlite:///{tmp_path}/sayso.db"
    with SaysoServer(store=store, workers=2, metrics_listen="127.0.0.1:0") as server:
        (folder,) = tmp_path.glob("sayso-metrics-*")
        shutil.rmtree(folder)
        with server.client() as sayso:
            sayso.enroll("slt", clips("slt", "enroll")[0])
        assert scraped(server.log) is not None
        for _ in range(2):
            before = children(server.process.pid)
            os.kill(min(before), signal.SIGKILL)
            until(lambda b=before: bool(children(server.process.pid) - b), "replaced")  # type: ignore[misc]
        until(lambda: server.log.count("started: ") == 4, "the new ones serve")
        with server.client() as sayso:
            assert sayso.speakers.get("slt")
        until(lambda: "sayso_ready" in scraped(server.log), "metrics of the new ones")
        assert "metrics of workers that run are lost" in server.log


def test_metrics_on_an_address_of_version_6(tmp_path: Path) -> None:
    with SaysoServer(store=f"sqlite:///{tmp_path}/sayso.db", metrics_listen="[::1]:0") as server:
        assert "sayso_ready 1.0" in scraped(server.log)


@contextlib.contextmanager
def quota(processors: float) -> Iterator[Path]:
    folder = CPU / "sayso-test"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        (folder / "cpu.cfs_period_us").write_text("100000")
        (folder / "cpu.cfs_quota_us").write_text(str(int(processors * 100_000)))
        yield folder
    finally:
        folder.rmdir()


def test_threads_obey_a_quota_of_processors() -> None:
    program = "from service.inference import processors; print(processors.count_available())"
    with quota(1.0) as group:
        join = f'echo $$ > {group}/cgroup.procs && exec "$0" -c "$1"'
        said = subprocess.run(
            ["sh", "-c", join, sys.executable, program],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    assert said.stdout == "1\n"


def health(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", "health", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_health_follows_the_address_of_the_server(tmp_path: Path) -> None:
    with SaysoServer(store=f"sqlite:///{tmp_path}/sayso.db") as server:
        port = server.address.rpartition(":")[2]
        for listen in (server.address, f"0.0.0.0:{port}"):
            said = health(SAYSO_LISTEN=listen)
            assert (said.returncode, said.stdout) == (0, "ready\n")
    said = health(SAYSO_LISTEN=server.address)
    assert said.returncode == 1
    assert "Connection refused" in said.stdout


def test_health_needs_little() -> None:
    """Importing them is what took the time."""
    program = (
        "import sys; from service.commands import health; health.main(['--server', '127.0.0.1:9'])"
        "; import json; print(json.dumps(list(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = set(json.loads(said.stdout.splitlines()[-1]))
    assert modules & {"numpy", "onnxruntime", "pydantic", "typer", "rich", "redis"} == set()
