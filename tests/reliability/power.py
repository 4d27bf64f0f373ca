"""Power cuts, as far as one machine can make them: a Redis loses what it had not synchronised.

SIGKILL loses nothing that was written, which the kernel still has. So Redis runs under strace,
which says what it wrote to its append-only file and when that reached the disk (`fdatasync`); after
a SIGKILL the file is cut to where it was synchronised for certain. That is the worst that the disk
may do: a real one may have kept more.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.reliability.serving import wait_until
from tests.support.redis_server import RedisServer

_WRITE = re.compile(r"^(\d+) write\(\d+<([^>]*)>")
_SYNC = re.compile(r"^(\d+) (?:fdatasync|fsync)\(\d+<([^>]*)>")
_RESULT = re.compile(r"= (-?\d+)$")
_UNFINISHED = "<unfinished ...>"
_RESUMED = re.compile(r"^(\d+) <\.\.\. \w+ resumed>")


@dataclass(slots=True)
class Synchronised:
    """How many bytes of a file were on the disk for certain, from lines of `strace -f -y`."""

    path: str
    written: int
    certain: int = 0
    _under_way: dict[str, int | None] = field(default_factory=dict)  # by thread; None: a write

    def read(self, line: str) -> None:
        if begun := _WRITE.match(line) or _SYNC.match(line):
            thread, path = begun.groups()
            if path == self.path:
                self._under_way[thread] = None if "write(" in begun[0] else self.written
        elif not (begun := _RESUMED.match(line)):
            return
        ended = _RESULT.search(line)
        if _UNFINISHED in line or ended is None or begun[1] not in self._under_way:
            return
        covered, result = self._under_way.pop(begun[1]), int(ended[1])
        if covered is None:
            self.written += max(result, 0)
        elif result == 0:
            self.certain = max(self.certain, covered)


class Traced:
    """A running Redis that is traced from here on."""

    def __init__(self, redis: RedisServer, folder: Path) -> None:
        if shutil.which("strace") is None:
            pytest.skip("strace is not on PATH: install it (Debian: apt-get install strace)")
        self._redis = redis
        (self._file,) = (folder / "appendonlydir").glob("*.incr.aof")
        self._log = folder / "strace.log"
        self._log.unlink(missing_ok=True)
        self._began = self._file.stat().st_size
        pid = redis.command("INFO", "server").decode().partition("process_id:")[2].split()[0]
        calls = "trace=write,fdatasync,fsync"
        self._strace = subprocess.Popen(
            ["strace", "-f", "-y", "-q", "-s", "0", "-e", calls, "-o", str(self._log), "-p", pid],
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._follows, "traced Redis")

    def _follows(self) -> bool:
        self._redis.command("PING")
        assert self._strace.poll() is None, "strace may not follow a process here"
        return self._log.exists() and "write(" in self._log.read_text(encoding="ascii")

    def cut(self) -> int:
        """Kills Redis and takes what may not have been on the disk; how many bytes that was."""
        self._redis.kill()
        self._strace.wait()
        state = Synchronised(str(self._file), self._began, self._began)
        for line in self._log.read_text(encoding="ascii", errors="replace").splitlines():
            state.read(line)
        size = self._file.stat().st_size
        assert state.written <= size, "strace saw more than there is"
        with self._file.open("r+b") as file:
            file.truncate(state.certain)
        return size - state.certain
