"""Memory that was freed between blocks in use goes back to the system."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import asyncio
from service import heap

BLOCK_BYTES, BLOCKS = 16 * 1024, 20_000  # 330 MB

async def memory_goes_back():
    before_bytes = heap.resident_bytes()
    blocks = [bytes(BLOCK_BYTES) for _ in range(BLOCKS)]
    kept = blocks[::100]
    del blocks
    assert heap.resident_bytes() > before_bytes + BLOCKS * BLOCK_BYTES / 2
    keeping = asyncio.create_task(heap.give_back(every_s=0.01))
    async with asyncio.timeout(10):
        while heap.resident_bytes() > before_bytes + BLOCKS * BLOCK_BYTES / 4:
            await asyncio.sleep(0.01)
    keeping.cancel()
    assert len(kept) == BLOCKS // 100

asyncio.run(memory_goes_back())
"""

_ARENAS = """
import ctypes, sys, tempfile, threading
from service import heap

if sys.argv[1] == "shared":
    heap.share()
begin = threading.Barrier(8)

def allocate():
    begin.wait()
    blocks = [bytes(8192) for _ in range(500)]
    begin.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.fclose.argtypes = [ctypes.c_void_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
with tempfile.NamedTemporaryFile() as told:
    file = libc.fopen(told.name.encode(), b"w")
    assert libc.malloc_info(0, file) == 0
    libc.fclose(file)
    print(told.read().count(b"<heap nr="))
"""

needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries do not keep it"
)


@needs_glibc
def test_all_threads_share_a_heap() -> None:
    assert int(_ran(_ARENAS, "apart")) > 1
    assert int(_ran(_ARENAS, "shared")) == 1


def test_what_is_there_when_settled_is_looked_through_no_more() -> None:
    told = _ran(
        "import gc; from service import heap; heap.settle();"
        "print(gc.get_freeze_count() > 1000, sum(gc.get_stats()[2].values()) > 0)"
    )
    assert told == "True True"


@needs_glibc
def test_memory_goes_back() -> None:
    _ran(_PROGRAM)


def _ran(program: str, *arguments: str) -> str:
    """What it prints, in a process of its own: this one has had much memory already."""
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()
