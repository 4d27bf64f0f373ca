"""A real `sayso serve` in a process of its own, for integration tests and benchmarks."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import urlopen

from sayso import Client

ROOT = Path(__file__).resolve().parents[2]
_EXIT_S = 30.0


class ServerFailed(Exception):
    """The server ended before it served; the message is what it wrote."""


class SaysoServer:
    """Starts on entering, once it announces its address; ends on SIGTERM when left."""

    def __init__(self, *, store: str, listen: object = "127.0.0.1:0", **settings: object) -> None:
        self._arguments = ["serve", "--listen", str(listen), "--store", store]
        names = {f"SAYSO_{name.upper()}": str(value) for name, value in settings.items()}
        self._environment = {**os.environ, **names}
        self._log = Path(tempfile.mkdtemp(prefix="sayso-")) / "server.log"
        self.address = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.terminate()

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", *self._arguments],
                cwd=ROOT,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("serving on "):
                self.address = line.split()[-1]
                return
        self._wait()
        raise ServerFailed(self.log)

    @property
    def log(self) -> str:
        """What the server has written to stderr so far."""
        return self._log.read_text()

    @property
    def metrics_url(self) -> str:
        """Where Prometheus reads, if the server has a `metrics_listen`."""
        [url] = re.findall(r"http://[^\s\"]+/metrics", self.log)
        return str(url)

    def read_metrics(self) -> str:
        with urlopen(self.metrics_url, timeout=20.0) as answer:  # noqa: S310 - the server's own
            return str(answer.read().decode())

    def client(self, *, timeout_s: float = 30.0) -> Client:
        return Client(self.address, timeout_s=timeout_s)

    def terminate(self) -> str:
        """Drains the server; what it wrote to stderr, its log."""
        self.process.terminate()
        assert self._wait() == 0, self.log
        return self.log

    def kill(self) -> None:
        self.process.kill()
        self._wait()

    def _wait(self) -> int:
        self.process.communicate(timeout=_EXIT_S)
        return self.process.returncode
