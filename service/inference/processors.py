"""Processors: count those that this process may use, by its affinity and its cgroups' quotas.

A container's limit of processors is a quota, which neither `os.cpu_count` nor the affinity shows.
With more inference threads than that, the kernel stops all of them for the rest of each period.
"""

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIPS = Path("/proc/self/cgroup")


def count_available(*, cgroups: Path = _CGROUPS, memberships: Path = _MEMBERSHIPS) -> int:
    """Count the processors, at least 1; a fraction of a processor counts as a whole one."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *map(math.ceil, _read_quotas(cgroups, memberships))]))


def _read_quotas(cgroups: Path, memberships: Path) -> Iterator[float]:
    """Yield the quotas, in processors, of every cgroup of this process and of their parents."""
    for folder in _list_folders(cgroups, memberships):
        with contextlib.suppress(OSError, ValueError):  # version 2
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)  # without a limit the quota is the word max
        with contextlib.suppress(OSError, ValueError):  # version 1, where -1 is no limit
            limit = int((folder / "cpu.cfs_quota_us").read_text())
            if limit > 0:
                yield limit / int((folder / "cpu.cfs_period_us").read_text())


def _list_folders(cgroups: Path, memberships: Path) -> Iterator[Path]:
    """Yield the folders of those cgroups that may exist. In a container a path may be the host's,
    which does not exist there; the root does."""
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
        yield from (root / parent for parent in (place, *place.parents))
