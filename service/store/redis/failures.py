"""Failed verifications in Redis: one string a speaker, written in Lua if nobody wrote it since.

sayso:{tenant}:failures:<id>   the token of its writing, then the tally

It never expires: Redis evicts keys with a time to live first when it is short of memory, and a lock
that is evicted is lifted.
"""

import secrets
from collections.abc import Callable

from service.errors import Unavailable
from service.store.failures import NO_FAILURES, Step, Tally
from service.store.redis.groups import Evaluate

_ATTEMPTS = 100
_TOKEN_BYTES = 16

_GET = "return redis.call('GET', KEYS[1])"

# KEYS: tally, speaker. ARGV: the tally that was read ('' for none), the new one ('' for none).
# A new one that is there already was written by a try whose reply was lost.
_PUT = """
local held = redis.call('GET', KEYS[1]) or ''
if held == ARGV[2] then return 1 end
if held ~= ARGV[1] then return 0 end
if ARGV[2] == '' or redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2])
end
return 1
"""


class RedisFailures:
    """`Failures` by way of `evaluate(script, keys, arguments)`; `prefix` is of a tenant's keys."""

    def __init__(self, evaluate: Evaluate, *, prefix: Callable[[str], bytes]) -> None:
        self._evaluate = evaluate
        self._prefix = prefix

    async def get(self, tenant: str, speaker_id: str) -> Tally:
        return _tally(await self._record(tenant, speaker_id))

    async def change(self, tenant: str, speaker_id: str, step: Step) -> Tally:
        keys = [self._key(tenant, kind, speaker_id) for kind in ("failures:", "speaker:")]
        for _ in range(_ATTEMPTS):
            held = await self._record(tenant, speaker_id)
            tally = step(_tally(held))
            token = secrets.token_hex(_TOKEN_BYTES // 2).encode()
            new = b"" if tally == NO_FAILURES else token + tally.encode()
            if await self._evaluate(_PUT, keys, [held, new]):
                return tally
        raise Unavailable("too many verifications of one speaker fail at once; try again")

    async def _record(self, tenant: str, speaker_id: str) -> bytes:
        key = self._key(tenant, "failures:", speaker_id)
        return await self._evaluate(_GET, [key], []) or b""

    def _key(self, tenant: str, kind: str, speaker_id: str) -> bytes:
        return self._prefix(tenant) + kind.encode() + speaker_id.encode()


def _tally(record: bytes) -> Tally:
    return Tally.decode(record[_TOKEN_BYTES:] or None)
