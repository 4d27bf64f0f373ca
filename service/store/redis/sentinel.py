"""Asks all Sentinels at once. redis-py asks one after the other, and waits for one that is gone for
longer than a call may take."""

import asyncio
from typing import Any, TypeAlias

from redis.asyncio import Sentinel
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import RedisError

_PATIENCE_S = 0.25
_FAILED = (RedisError, OSError)

_State: TypeAlias = dict[str, Any]


class Sentinels(Sentinel):
    """Finds the master by the newest configuration among a majority of the Sentinels, or among as
    many as answer in time. A Sentinel that does not know of a failover yet has an older one."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port; raises redis-py's `MasterNotFoundError`."""
        asked = {
            asyncio.create_task(self._ask_state(sentinel, service_name))
            for sentinel in self.sentinels
        }
        try:
            states = await self._collect_states(asked)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        if not states:
            raise MasterNotFoundError(f"no Sentinel knows a master of {service_name!r}")
        latest = max(states, key=lambda state: int(state["config-epoch"]))
        return str(latest["ip"]), int(latest["port"])

    async def _collect_states(self, asked: set[asyncio.Task[_State | None]]) -> list[_State]:
        """The states of the master that a majority gives, or as many as come in time."""
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
            states += [state for task in done if (state := task.result()) is not None]
        return states

    async def _ask_state(self, sentinel: Any, service_name: str) -> _State | None:
        """The state of the master; None if the Sentinel is away or knows no master that is up."""
        try:
            state: _State | None = (await sentinel.sentinel_masters()).get(service_name)
        except _FAILED:
            return None
        is_up = state is not None and self.check_master_state(state, service_name)
        return state if is_up else None
