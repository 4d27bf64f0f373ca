"""Processors: how many this process may use, by its affinity and by the quotas of its cgroups.

A container's limit of processors is a quota, which `os.cpu_count` and the affinity know nothing of.
Inference threads beyond it only make the kernel stop all of them for the rest of each period.
"""

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIPS = Path("/proc/self/cgroup")


def available(*, cgroups: Path = _CGROUPS, memberships: Path = _MEMBERSHIPS) -> int:
    """At least 1; a part of a processor counts as a whole one."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *map(math.ceil, _quotas(cgroups, memberships))]))


def _quotas(cgroups: Path, memberships: Path) -> Iterator[float]:
    """In processors, of every cgroup that this process is in, and of those above them."""
    for folder in _folders(cgroups, memberships):
        with contextlib.suppress(OSError, ValueError):  # version 2
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)  # without a limit the quota is the word max
        with contextlib.suppress(OSError, ValueError):  # version 1, where -1 is no limit
            limit = int((folder / "cpu.cfs_quota_us").read_text())
            if limit > 0:
                yield limit / int((folder / "cpu.cfs_period_us").read_text())


def _folders(cgroups: Path, memberships: Path) -> Iterator[Path]:
    """In a container the path may be that of the host, which is not there: the root is."""
    try:
        lines = memberships.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / controllers
        place = Path(path.lstrip("/"))
        yield from (root / each for each in (place, *place.parents))
