"""Room: bytes of requests that are held at once; who finds none waits, unread, with the client."""

import asyncio
from collections import deque
from typing import Self

from service.errors import Overloaded

_RETRY_AFTER_S = 1.0


class Room:
    """`size_bytes` to share, first come, first served."""

    def __init__(self, size_bytes: int, *, patience_s: float = 5.0) -> None:
        self._size_bytes = size_bytes
        self._free_bytes = size_bytes
        self._patience_s = patience_s
        self._waiting = deque[tuple[int, asyncio.Future[None]]]()

    async def place(self, wanted_bytes: int) -> "Place":
        """So many bytes, or all there are; raises `Overloaded` where they do not come free soon."""
        taken_bytes = min(wanted_bytes, self._size_bytes)
        await self._take(taken_bytes)
        return Place(self, taken_bytes)

    def give(self, freed_bytes: int) -> None:
        """Takes bytes back, and lets in whom they are enough for."""
        self._free_bytes += freed_bytes
        while self._waiting:
            wanted_bytes, turn = self._waiting[0]
            if not turn.done():
                if wanted_bytes > self._free_bytes:
                    return
                self._free_bytes -= wanted_bytes
                turn.set_result(None)
            self._waiting.popleft()

    async def _take(self, wanted_bytes: int) -> None:
        if not self._waiting and wanted_bytes <= self._free_bytes:
            self._free_bytes -= wanted_bytes
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted_bytes, turn))
        try:
            async with asyncio.timeout(self._patience_s):
                await turn
        except BaseException as error:
            self.give(0 if turn.cancelled() else wanted_bytes)
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    "the requests in work hold all the memory there is for them; send smaller "
                    "ones, or fewer at once",
                    retry_after_s=_RETRY_AFTER_S,
                ) from error
            raise


class Place:
    """What one request has taken of a `Room`, and gives back when it is left."""

    def __init__(self, room: Room, taken_bytes: int) -> None:
        self._room = room
        self._taken_bytes = taken_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.keep(0)

    def keep(self, needed_bytes: int) -> None:
        """Gives back what is not needed."""
        freed_bytes = max(0, self._taken_bytes - needed_bytes)
        self._taken_bytes -= freed_bytes
        self._room.give(freed_bytes)
