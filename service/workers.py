"""Workers: several server processes on one port, each with its own connections.

    parent ─┬─ holds the port (SO_REUSEPORT), accepts nothing
            ├─ worker ── stdin   stays open as long as the parent lives; its end is a SIGTERM
            └─ worker ── stdout  says once that it serves

The kernel gives each new connection to one of the workers by its addresses and ports: a few
connections may fall on the same one, and a connection stays where it is. Those that a worker has
not accepted when it stops listening are reset.
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
"""How the line begins by which a worker says that it serves."""

_EARLY_DEATHS = 5
_STEADY_S = 60.0
_BACKOFF_S = 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Command:
    """What a worker runs, and after how many seconds one that was told to stop is killed.

    `starting` is called before each start; `ended` with the process id of each that has ended.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    patience_s: float
    ended: Callable[[int], None] = lambda pid: None
    starting: Callable[[], None] = lambda: None


class WorkerFailed(SaysoError):
    """A worker did not come to serve, kept dying, or did not end as it was told to."""


def count_worker_threads(count: int) -> int:
    """Inference threads of one of `count` workers, where all of them share the cores."""
    return max(1, processors.count_available() // count)


@contextmanager
def reserve_port(listen: str) -> Iterator[str]:
    """Holds a port that nobody else listens on, for this user's processes; gives host:port.

    Raises `SettingsError`.
    """
    if sys.platform != "linux":
        raise SettingsError("--workers: several processes share a port on Linux only; leave it out")
    host, port = parse_host_and_port(listen, variable="SAYSO_LISTEN", example="127.0.0.1:50051")
    with contextlib.ExitStack() as stack:
        try:
            found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
            family, kind, protocol, _, (at, _, *scope) = found[0]
            held = stack.enter_context(socket.socket(family, kind, protocol))
            _hold(held, (at, int(port), *scope))
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"SAYSO_LISTEN: cannot listen on {listen}; is another server running there?"
            ) from error
        yield f"{host}:{held.getsockname()[1]}"


def _hold(held: socket.socket, address: tuple[object, ...]) -> None:
    """Binds alone, past connections of a server that has ended, and shares the port after that."""
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(address)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


async def keep(command: Command, count: int, serving: Callable[[], None]) -> None:
    """Keeps `count` workers running until cancelled, and then stops them; calls `serving` once,
    when all of them serve.

    The others start after the first, so it alone creates what is not there yet. A worker that dies
    is replaced. Raises `WorkerFailed` where one dies before it ever served, and where one dies five
    times in a row within a minute of its start.
    """
    try:
        async with asyncio.TaskGroup() as keepers:
            for numbers in (range(1), range(1, count)):
                ready = [asyncio.Event() for _ in numbers]
                for number, event in zip(numbers, ready, strict=True):
                    keepers.create_task(_keep(command, number, event))
                for event in ready:
                    await event.wait()
            serving()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _keep(command: Command, number: int, served: asyncio.Event) -> None:
    """One worker after another."""
    deaths = 0
    while True:
        began_s = time.monotonic()
        async with _worker(command) as worker:
            if await _wait_until_ready(worker):
                served.set()
            status = await worker.wait()
        if not served.is_set():
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
async def _worker(command: Command) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker, stopped on leaving if it has not ended; in a group of its own, so that Ctrl-C
    reaches the parent alone."""
    command.starting()
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
            command.ended(worker.pid)


async def _stop_worker(worker: asyncio.subprocess.Process, patience_s: float) -> None:
    """Raises `WorkerFailed` for one that is told to end and does not do so in order."""
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
    """Whether it came to serve before it ended."""
    assert worker.stdout is not None
    async for line in worker.stdout:
        if line.decode(errors="replace").startswith(READY):
            return True
    return False


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM or SIGINT from here on, and by SIGHUP of a terminal that is closed.

    Elsewhere SIGHUP asks a server to read its files again, which this one does by itself.
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
    """Sends this worker SIGTERM when its parent is gone, however the parent ended."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
