"""Audio of one call on its way to the server."""

import asyncio
from collections.abc import AsyncIterator


class AudioBuffer:
    """Joins small frames: whoever reads gets `message_bytes` or more at once, but for the first
    frame and the last. Holds at most `max_bytes`; one producer, one consumer."""

    def __init__(self, *, message_bytes: int, max_bytes: int) -> None:
        self._audio = bytearray()
        self._enough = 1  # the first frame goes alone: if it is unfit, the server says so at once
        self._message_bytes = message_bytes
        self._max_bytes = max_bytes
        self._ended = False
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    def add(self, audio: bytes) -> bool:
        """Add audio if there is room, and return whether there was; after `end`, drop it."""
        if self._ended:
            return True
        if len(self._audio) >= self._max_bytes:
            return False
        self._audio += audio
        if len(self._audio) >= self._enough:
            _wake(self._readable)
        return True

    async def put(self, audio: bytes) -> None:
        """Add audio once there is room."""
        while not self.add(audio):
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def end(self) -> None:
        """There is no more audio, or nobody reads it."""
        self._ended = True
        _wake(self._readable)
        _wake(self._writable)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while len(self._audio) < self._enough and not self._ended:
                self._readable = asyncio.get_running_loop().create_future()
                await self._readable
            if not self._audio:
                return
            audio, self._enough = bytes(self._audio), self._message_bytes
            self._audio.clear()
            _wake(self._writable)
            yield audio


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
