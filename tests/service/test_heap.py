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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do not keep it")
def test_memory_goes_back() -> None:
    """In a process of its own: one that has had much memory already takes none anew."""
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM], cwd=root, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
