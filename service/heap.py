"""Heap: memory that was freed goes back to the system, which glibc alone would keep."""

import asyncio
import ctypes
import os
from pathlib import Path

_STATM = Path("/proc/self/statm")
_EVERY_S = 30.0
_GROWTH_BYTES = 64 * 2**20


async def give_back(every_s: float = _EVERY_S) -> None:
    """Again and again, off the event loop, where memory has grown since the last time.

    glibc keeps what was freed between blocks that are still in use; other C libraries have no
    `malloc_trim`, and nothing is done.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    settled_bytes = 0
    while trim is not None:
        now_bytes = resident_bytes()
        if now_bytes > settled_bytes + _GROWTH_BYTES:
            await asyncio.to_thread(trim, 0)
            settled_bytes = resident_bytes()
        settled_bytes = min(settled_bytes, now_bytes)
        await asyncio.sleep(every_s)


def resident_bytes() -> int:
    """What this process has in memory."""
    return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")
