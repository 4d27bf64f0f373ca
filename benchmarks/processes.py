"""Processes as Linux counts them: memory, processor time, and the cores they may use."""

import os
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

MB = 1e6
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_IDLE = slice(3, 5)  # idle and waiting for a disk, among the counts of /proc/stat


def resident_mb(pid: int) -> float:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * _PAGE / MB


def processor_s(pid: int) -> float:
    """Read how many seconds all threads of a process have run, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def machine_s() -> float:
    """Read how many seconds the cores of this machine have been busy, summed."""
    line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    counts = [int(count) for count in line.split()[1:9]]
    return (sum(counts) - sum(counts[_IDLE])) * _TICK_S


class Usage:
    """The cores that a process and the whole machine use on average since this was made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = time.monotonic(), processor_s(pid), machine_s()

    def cores(self) -> tuple[float, float]:
        began_s, own_s, all_s = self._began
        taken_s = time.monotonic() - began_s
        return (processor_s(self._pid) - own_s) / taken_s, (machine_s() - all_s) / taken_s


@contextmanager
def confine_to_cores(cores: Set[int]) -> Iterator[None]:
    """Run processes that are started within this context on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def set_environment(**values: str) -> Iterator[None]:
    """Set environment variables for processes that are started within this context."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
