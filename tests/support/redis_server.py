"""A real `redis-server` for the tests: on a free port, durable, and easy to take away."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

_DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
_START_S = 20.0


_PORTS = range(10_000, 32_000)  # below those that Linux gives to whoever asks for any


def free_port() -> int:
    """A port that stays free until it is used.

    It is drawn at random from those that the system gives to nobody by itself, so that tests in
    other processes do not get the same one, nor take it while a server is restarted.
    """
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class RedisServer:
    """Runs `redis-server <arguments>` in `folder`, on one port across restarts.

    Skips the test when there is no `redis-server`, and fails it where CI=true.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._arguments = arguments or _DURABLE
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start, and return when it answers."""
        log = self._folder / "redis.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    _binary(),
                    *self._arguments,
                    *("--port", str(self.port), "--bind", "127.0.0.1"),
                    *("--dir", str(self._folder), "--loglevel", "warning"),
                ],
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"redis-server did not start: {log.read_text()}")
            time.sleep(0.01)

    def command(self, *words: str) -> bytes:
        """Send one command over a connection of its own; the beginning of the raw reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30.0) as connection:
            connection.sendall(
                f"*{len(words)}\r\n".encode()
                + b"".join(f"${len(word.encode())}\r\n{word}\r\n".encode() for word in words)
            )
            return connection.recv(65536)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it where it stands: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def _binary() -> str:
    binary = shutil.which("redis-server")
    if binary is not None:
        return binary
    message = "redis-server is not on PATH: install it (Debian: apt-get install redis-server)"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
