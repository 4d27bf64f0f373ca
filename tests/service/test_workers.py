"""Keeping processes running, whatever they run."""

import asyncio
import os
import re
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service import workers
from service.commands import serve
from service.errors import SettingsError
from service.workers import Command, WorkerFailed, reserve_port, run_workers

PATIENCE_S = 30.0
SERVES = """
import signal, sys
print("loading")
print("serving on nothing", flush=True)
signal.pause()
"""
DIES_ONCE_IT_SERVES = 'print("serving on nothing", flush=True); raise SystemExit(3)'
NEVER_ENDS = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + SERVES
COUNTS = """
from prometheus_client import Counter, Gauge
Counter("served", "").inc()
Gauge("running", "", multiprocess_mode="livesum").inc()
"""


def _command(program: str, *, after_end: Callable[[int], None] = lambda pid: None) -> Command:
    return Command((sys.executable, "-c", program), dict(os.environ), PATIENCE_S, after_end)


@asynccontextmanager
async def _kept(command: Command, count: int) -> AsyncIterator[set[int]]:
    """The process ids of workers that serve."""
    before, serving = _children(), asyncio.Event()
    task = asyncio.create_task(run_workers(command, count, serving.set))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await serving.wait()
        yield _children() - before
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def _children() -> set[int]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return {int(child) for child in listed.split()}


async def test_one_that_dies_before_it_served() -> None:
    with pytest.raises(WorkerFailed, match="ended with status 7 before it served"):
        await run_workers(_command("raise SystemExit(7)"), 3, lambda: pytest.fail("none served"))


async def test_one_that_keeps_dying() -> None:
    after_end: list[int] = []
    with pytest.raises(WorkerFailed, match="died 5 times in a row soon after its start"):
        await run_workers(
            _command(DIES_ONCE_IT_SERVES, after_end=after_end.append), 1, lambda: None
        )
    assert len(set(after_end)) == 5


async def test_all_are_stopped_with_the_keeper() -> None:
    after_end: list[int] = []
    async with _kept(_command(SERVES, after_end=after_end.append), 3) as children:
        assert len(children) == 3
    assert set(after_end) == children
    assert not _children() & children


async def test_one_that_does_not_end_is_killed() -> None:
    command = Command((sys.executable, "-c", NEVER_ENDS), dict(os.environ), 0.1)
    serving = asyncio.Event()
    task = asyncio.create_task(run_workers(command, 1, serving.set))
    await serving.wait()
    task.cancel()
    with pytest.raises(WorkerFailed, match="status -9"):
        await task


def _numbers(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    samples = (line.split() for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


async def test_one_endpoint_tells_of_all_workers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a worker that has ended counted stays; that it runs does not."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")  # taken away again after the test
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    monkeypatch.setattr(workers, "_BACKOFF_S", PATIENCE_S)  # none is replaced during the test
    caplog.set_level("INFO")
    with serve._serve_metrics("127.0.0.1:0", shared=True) as (_, forget):
        found = re.search(r"metrics at http://(\S+)/metrics", caplog.text)
        assert found
        after_end = asyncio.Event()

        def tell(pid: int) -> None:
            forget(pid)
            after_end.set()

        async with _kept(_command(COUNTS + SERVES, after_end=tell), 2) as children:
            assert _numbers(found[1]) == {"served_total": 2.0, "running": 2.0}
            os.kill(max(children), signal.SIGKILL)
            await after_end.wait()
            assert _numbers(found[1]) == {"served_total": 2.0, "running": 1.0}


def test_a_reserved_port_is_for_those_who_share_it() -> None:
    with reserve_port("127.0.0.1:0") as address:
        host, _, port = address.rpartition(":")
        with socket.socket() as alone, pytest.raises(OSError, match="in use"):
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((host, int(port)))
        with pytest.raises(SettingsError, match="another server"), reserve_port(address):
            pass
        with socket.socket() as sharing:
            sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sharing.bind((host, int(port)))
            sharing.listen()
    with reserve_port(address) as again:
        assert again == address


@pytest.mark.parametrize("listen", ["no-port", ":1", "127.0.0.1:x", "127.0.0.1:99999", "[::1"])
def test_no_address(listen: str) -> None:
    with pytest.raises(SettingsError, match="SAYSO_LISTEN"), reserve_port(listen):
        pass


def test_elsewhere_than_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SettingsError, match="on Linux only"), reserve_port("127.0.0.1:0"):
        pass
