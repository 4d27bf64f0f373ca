"""`sayso gateway` in a process of its own."""

import os
import subprocess
import sys
from types import TracebackType
from typing import Self

from tests.support.sayso_server import ROOT

_EXIT_S = 30.0


class GatewayProcess:
    """Starts on entering, once it announces its address; ends on SIGTERM when left. Settings are
    named as variables without `SAYSO_GATEWAY_`, in lower case."""

    def __init__(self, server: str, *, credential: str = "", **settings: object) -> None:
        names = {f"SAYSO_GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
        shown = {"SAYSO_CREDENTIAL": credential} if credential else {}
        self._environment = {**os.environ, "SAYSO_SERVER": server, **shown, **names}
        self.address = ""
        self.audiosocket = ""
        self.siprec = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", "gateway", "--listen", "127.0.0.1:0"],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("gateway on "), self.process.communicate(timeout=_EXIT_S)
        self.address = line.split()[2].rstrip(",")
        self.audiosocket = line.split()[-1]
        self.siprec = line.split()[-1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.terminate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=_EXIT_S)

    def terminate(self) -> str:
        """Drain it; what it has written to stderr, its log."""
        self.process.terminate()
        _, log = self.process.communicate(timeout=_EXIT_S)
        assert self.process.returncode == 0, log
        return str(log)
