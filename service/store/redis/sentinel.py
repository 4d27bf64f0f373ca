"""Sentinels, asked all at once: redis-py asks one after the other, and waits for one that is gone
for longer than a call has."""

import asyncio
from typing import Any, TypeAlias

from redis.asyncio import Sentinel
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import RedisError

_PATIENCE_S = 0.25
_FAILED = (RedisError, OSError)

_State: TypeAlias = dict[str, Any]


class Sentinels(Sentinel):
    """The master is what the latest of a majority of them says, or of those who say anything soon.

    One who has not heard of a failover yet is outvoted by one who has: configurations are numbered.
    """

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port; raises redis-py's `MasterNotFoundError`."""
        asked = {asyncio.create_task(self._state(one, service_name)) for one in self.sentinels}
        try:
            states = await self._answers(asked)
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        if not states:
            raise MasterNotFoundError(f"no Sentinel knows a master of {service_name!r}")
        latest = max(states, key=lambda state: int(state["config-epoch"]))
        return str(latest["ip"]), int(latest["port"])

    async def _answers(self, asked: set[asyncio.Task[_State | None]]) -> list[_State]:
        """Of those that know a master that is up."""
        states: list[_State] = []
        waiting, majority = asked, len(asked) // 2 + 1
        deadline_s = asyncio.get_running_loop().time() + _PATIENCE_S
        while waiting and not (states and len(asked) - len(waiting) >= majority):
            left_s = deadline_s - asyncio.get_running_loop().time()
            done, waiting = await asyncio.wait(
                waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            states += [state for each in done if (state := each.result()) is not None]
        return states

    async def _state(self, one: Any, service_name: str) -> _State | None:
        try:
            state: _State | None = (await one.sentinel_masters()).get(service_name)
        except _FAILED:
            return None
        known = state is not None and self.check_master_state(state, service_name)
        return state if known else None
