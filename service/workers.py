"""Workers: several server processes on one port, each with its own connections.

    parent ─┬─ binds the port (SO_REUSEPORT), but accepts no connection
            ├─ worker ── stdin   open as long as the parent lives; when it closes, the worker stops
            └─ worker ── stdout  prints one line when it is ready

The kernel gives each new connection to one of the workers by a hash of its addresses and ports, so
a few connections may all go to the same worker; a connection stays with its worker. Connections
that a worker has not accepted when it stops listening are reset.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from service.errors import SaysoError, SettingsError
from service.inference import processors
from service.network import parse_host_and_port

READY = "serving on "
"""The beginning of the line that a worker prints when it is ready."""

_EARLY_DEATHS = 5
_STEADY_S = 60.0
_BACKOFF_S = 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Command:
    """How to run a worker: its command line, its environment, and the `patience_s` seconds after
    which a worker that was told to stop is killed.

    `before_start` is called before each start, `after_end` with the process id of each worker that
    has ended.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    patience_s: float
    after_end: Callable[[int], None] = lambda pid: None
    before_start: Callable[[], None] = lambda: None


class WorkerFailed(SaysoError):
    """A worker did not become ready, died repeatedly, or did not stop when it was told to."""


def count_worker_threads(count: int) -> int:
    """Return the inference threads of each of `count` workers that share the processors."""
    return max(1, processors.count_available() // count)


@contextmanager
def reserve_port(listen: str) -> Iterator[str]:
    """Reserve a port that nobody else listens on for processes of this user; yields host:port.

    Raises `SettingsError`.
    """
    if sys.platform != "linux":
        raise SettingsError("--workers: several processes share a port on Linux only; leave it out")
    host, port = parse_host_and_port(listen, variable="SAYSO_LISTEN", example="127.0.0.1:50051")
    with contextlib.ExitStack() as stack:
        try:
            addresses = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
            family, kind, protocol, _, (host_address, _, *scope) = addresses[0]
            reserved = stack.enter_context(socket.socket(family, kind, protocol))
            _bind_exclusively(reserved, (host_address, int(port), *scope))
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"SAYSO_LISTEN: cannot listen on {listen}; is another server running there?"
            ) from error
        yield f"{host}:{reserved.getsockname()[1]}"


def _bind_exclusively(reserved: socket.socket, address: tuple[object, ...]) -> None:
    """Bind as the only socket, even if connections of an earlier server linger, then allow sharing
    of the port."""
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(address)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


async def run_workers(command: Command, count: int, on_ready: Callable[[], None]) -> None:
    """Keep `count` workers running until cancelled, then stop them; calls `on_ready` once, when all
    of them are ready.

    The others start after the first, so that only the first creates the store. A worker that dies
    is replaced. Raises `WorkerFailed` if one dies before it is ready, or five times in a row within
    a minute of its start.
    """
    try:
        async with asyncio.TaskGroup() as keepers:
            for numbers in (range(1), range(1, count)):
                ready = [asyncio.Event() for _ in numbers]
                for number, event in zip(numbers, ready, strict=True):
                    keepers.create_task(_run_worker(command, number, event))
                for event in ready:
                    await event.wait()
            on_ready()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _run_worker(command: Command, number: int, is_ready: asyncio.Event) -> None:
    """Run one worker after another, and set `is_ready` when the first of them is ready."""
    deaths = 0
    while True:
        began_s = time.monotonic()
        async with _start_worker(command) as worker:
            if await _wait_until_ready(worker):
                is_ready.set()
            status = await worker.wait()
        if not is_ready.is_set():
            raise WorkerFailed(f"a worker ended with status {status} before it served; see above")
        deaths = deaths + 1 if time.monotonic() - began_s < _STEADY_S else 1
        if deaths == _EARLY_DEATHS:
            raise WorkerFailed(
                f"worker {number} died {deaths} times in a row soon after its start, the last time "
                f"with status {status}; see above"
            )
        log.error("worker %d, process %d, died with status %d", number, worker.pid, status)
        await asyncio.sleep(_BACKOFF_S * 2 ** (deaths - 1))


@asynccontextmanager
async def _start_worker(command: Command) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a worker, and stop it on exit if it still runs. It gets a process group of its own, so
    that Ctrl-C reaches only the parent."""
    command.before_start()
    worker = await asyncio.create_subprocess_exec(
        *command.arguments,
        env=command.environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        process_group=0,
    )
    try:
        yield worker
    finally:
        try:
            await _stop_worker(worker, command.patience_s)
        finally:
            command.after_end(worker.pid)


async def _stop_worker(worker: asyncio.subprocess.Process, patience_s: float) -> None:
    """Stop a worker; raises `WorkerFailed` if it does not exit cleanly."""
    if worker.returncode is not None:
        return
    worker.terminate()
    try:
        async with asyncio.timeout(patience_s):
            status = await worker.wait()
    except TimeoutError:
        worker.kill()
        status = await worker.wait()
    if status not in (0, -signal.SIGTERM):
        raise WorkerFailed(f"process {worker.pid} did not end in order: status {status}")


async def _wait_until_ready(worker: asyncio.subprocess.Process) -> bool:
    """Return whether the worker became ready, rather than ending first."""
    assert worker.stdout is not None
    async for line in worker.stdout:
        if line.decode(errors="replace").startswith(READY):
            return True
    return False


def watch_stop_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set, and SIGHUP if there is a terminal, which is then
    closed.

    Without a terminal SIGHUP asks a server to read its files again, which this one does by itself.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    hang_up = stop.set if sys.stdin is not None and sys.stdin.isatty() else _ignore_hang_up
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    return stop


def _ignore_hang_up() -> None:
    log.info("SIGHUP: keys, certificates and tokens are read again whenever their files change")


def follow_parent() -> None:
    """Send this worker SIGTERM when its parent has ended, for whatever reason."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
