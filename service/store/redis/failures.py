"""Failed verifications in Redis: one string a speaker, written in Lua if nobody wrote it since.

sayso:{tenant}:failures:<id>   the token of its writing, then the count

It never expires: Redis evicts keys with a time to live first when it is short of memory, and a lock
that is evicted is lifted.
"""

import secrets
from collections.abc import Callable

from service.errors import Unavailable
from service.store.failures import NO_FAILURES, FailureCount, Step
from service.store.redis.groups import Evaluate

_ATTEMPTS = 100
_TOKEN_BYTES = 16

_GET = "return redis.call('GET', KEYS[1])"

# KEYS: count, speaker. ARGV: the count that was read ('' for none), the new one ('' for none).
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

    async def get(self, tenant: str, speaker_id: str) -> FailureCount:
        return parse_count(await self._record(tenant, speaker_id))

    async def change(self, tenant: str, speaker_id: str, step: Step) -> FailureCount:
        speaker = self._prefix(tenant) + b"speaker:" + speaker_id.encode()
        keys = [self.key(tenant, speaker_id), speaker]
        for _ in range(_ATTEMPTS):
            stored = await self._record(tenant, speaker_id)
            count = step(parse_count(stored))
            token = secrets.token_hex(_TOKEN_BYTES // 2).encode()
            new = b"" if count == NO_FAILURES else token + count.encode()
            if await self._evaluate(_PUT, keys, [stored, new]):
                return count
        raise Unavailable("too many verifications of one speaker fail at once; try again")

    async def _record(self, tenant: str, speaker_id: str) -> bytes:
        return await self._evaluate(_GET, [self.key(tenant, speaker_id)], []) or b""

    def key(self, tenant: str, speaker_id: str) -> bytes:
        """Of the speaker's count."""
        return self._prefix(tenant) + b"failures:" + speaker_id.encode()


def parse_count(record: bytes) -> FailureCount:
    return FailureCount.decode(record[_TOKEN_BYTES:] or None)
