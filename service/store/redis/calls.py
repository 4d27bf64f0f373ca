"""Announced calls in Redis: a string for each, which Redis removes when it expires.

sayso:{tenant}:call:<id>   the announcement
"""

import math
from collections.abc import Callable

from service.store.calls import AnnouncedCall
from service.store.redis.groups import Evaluate

# ARGV: the call, milliseconds until it expires.
_ANNOUNCE = "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1"

_TAKE = """
local call = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return call
"""


class RedisCalls:
    """`Calls` on Redis. `evaluate` runs scripts; `prefix` begins a tenant's keys.

    If the reply of `take` is lost, a second try finds nothing: the call then goes unverified.
    """

    def __init__(self, evaluate: Evaluate, *, prefix: Callable[[str], bytes]) -> None:
        self._evaluate = evaluate
        self._prefix = prefix

    async def announce(self, tenant: str, call: AnnouncedCall, *, at: float) -> None:
        left_ms = max(1, math.ceil((call.expires_at - at) * 1000))
        await self._evaluate(
            _ANNOUNCE, [self._key(tenant, call.call_id)], [call.encode(), str(left_ms)]
        )

    async def take(self, tenant: str, call_id: str, *, at: float) -> AnnouncedCall | None:
        record = await self._evaluate(_TAKE, [self._key(tenant, call_id)], [])
        if not record:
            return None
        call = AnnouncedCall.decode(call_id, record)
        return call if at < call.expires_at else None

    def _key(self, tenant: str, call_id: str) -> bytes:
        return self._prefix(tenant) + b"call:" + call_id.encode()
