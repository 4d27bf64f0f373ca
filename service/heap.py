"""Heap: memory that was freed is used again or goes back to the system, and what stays for as long
as the server runs is not looked through for garbage.

glibc alone would keep what was freed, for every thread that frees it; other C libraries have
neither `mallopt` nor `malloc_trim`, and nothing is done.
"""

import asyncio
import ctypes
import gc
import os
from pathlib import Path

_STATM = Path("/proc/self/statm")
_EVERY_S = 30.0
_GROWTH_BYTES = 64 * 2**20
_M_ARENA_MAX = -8  # malloc.h


def share() -> None:
    """One heap for all threads, to be called before there are any: of several each keeps room for
    the longest recordings that its threads have had."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_ARENA_MAX, 1)


def settle() -> None:
    """What is there by now stays: full collections are of what came later, and as quick."""
    gc.freeze()
    gc.collect()


async def give_back(every_s: float = _EVERY_S) -> None:
    """What was freed between blocks that are still in use, again and again, off the event loop,
    where memory has grown since the last time."""
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
