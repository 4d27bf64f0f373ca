"""Memory that was freed between blocks in use goes back to the system."""

import asyncio
import platform

import pytest

from service import heap

_BLOCK_BYTES = 16 * 1024
_BLOCKS = 20_000  # 330 MB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do not keep it")
async def test_memory_goes_back() -> None:
    before_bytes = heap.resident_bytes()
    blocks = [bytes(_BLOCK_BYTES) for _ in range(_BLOCKS)]
    kept = blocks[::100]
    del blocks
    assert heap.resident_bytes() > before_bytes + _BLOCKS * _BLOCK_BYTES / 2
    keeping = asyncio.create_task(heap.give_back(every_s=0.01))
    async with asyncio.timeout(10):
        while heap.resident_bytes() > before_bytes + _BLOCKS * _BLOCK_BYTES / 4:
            await asyncio.sleep(0.01)
    keeping.cancel()
    assert len(kept) == _BLOCKS // 100
