"""A line to a server that can be slow, break in the middle of a reply, or fall silent without
ending, as when a firewall forgets it."""

import asyncio
import contextlib
import random
import threading
from types import TracebackType
from typing import Self

_PIECE_BYTES = 65536


class Proxy:
    """Under `with`, passes connections on `port` to `target` of this machine, in a thread.

    Every piece of a reply waits for `delay_s`; of pieces, `cut` is the share after half of which
    both sides of the connection are reset. `stall` silences the connections that stand; newer ones
    are passed on.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._chance = random.Random(8)
        self._relays: set[asyncio.Task[None]] = set()
        self.delay_s = 0.0
        self.cut = 0.0
        self.cuts = 0
        self.port = 0
        self._stalls = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stall(self) -> None:
        """Swallows from now on what comes over the connections that stand, from both sides."""
        self._stalls += 1

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._ask(reader, far_writer))
                    both.create_task(self._answer(far_reader, writer))
            except* OSError:
                pass
            finally:
                far_writer.transport.abort()
        writer.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun = self._stalls
        while piece := await reader.read(_PIECE_BYTES):
            if begun == self._stalls:
                writer.write(piece)
                await writer.drain()
        raise ConnectionResetError

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun = self._stalls
        while piece := await reader.read(_PIECE_BYTES):
            if begun != self._stalls:
                continue
            await asyncio.sleep(self.delay_s)
            if self._chance.random() < self.cut:
                self.cuts += 1
                writer.write(piece[: len(piece) // 2])
                raise ConnectionResetError
            writer.write(piece)
            await writer.drain()
        raise ConnectionResetError
