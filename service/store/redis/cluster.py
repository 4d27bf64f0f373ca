"""Reads the map of a cluster once for all calls. redis-py starts over when a call runs out of its
time, and leaks connections if it is cancelled while it closes those of the attempt before."""

import asyncio
import contextlib
from functools import partial
from typing import Any, Self

from redis.asyncio import RedisCluster
from redis.exceptions import RedisError


class Cluster(RedisCluster):
    """A cluster whose map goes on being read when the call that asked for it is cancelled."""

    _reading: asyncio.Task[Any] | None = None

    async def initialize(self, *args: Any, **options: Any) -> Self:
        if self._initialize:  # what redis-py asks itself before each call
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(super().initialize(*args, **options))
                self._reading.add_done_callback(_retrieve)
            await asyncio.shield(self._reading)
        return self

    async def shut_down(self) -> None:
        """Close for good, connections that a cancelled call left open too."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        nodes = self.nodes_manager
        for close in (self.aclose, nodes.aclose, partial(nodes.aclose, "startup_nodes")):
            with contextlib.suppress(RedisError):  # a node that does not end its connection in time
                await close()


def _retrieve(reading: asyncio.Task[Any]) -> None:
    """Take the error of an attempt that nobody waits for any longer, which asyncio would log."""
    if not reading.cancelled():
        reading.exception()
