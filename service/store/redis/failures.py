"""Failed verifications in Redis: one string for each speaker, compared and set in Lua.

sayso:{tenant}:failures:<id>   the token of the latest write, then the count

It never expires: short of memory, Redis may evict keys that have a time to live, and with the count
the lock would be gone.
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
# If the new count is there already, an earlier try wrote it and its reply was lost.
_PUT = """
local stored = redis.call('GET', KEYS[1]) or ''
if stored == ARGV[2] then return 1 end
if stored ~= ARGV[1] then return 0 end
if ARGV[2] == '' or redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2])
end
return 1
"""


class RedisFailures:
    """`Failures` on Redis. `evaluate` runs scripts; `prefix` begins a tenant's keys."""

    def __init__(self, evaluate: Evaluate, *, prefix: Callable[[str], bytes]) -> None:
        self._evaluate = evaluate
        self._prefix = prefix

    async def get(self, tenant: str, speaker_id: str) -> FailureCount:
        return parse_count(await self._read(tenant, speaker_id))

    async def change(self, tenant: str, speaker_id: str, step: Step) -> FailureCount:
        speaker = self._prefix(tenant) + b"speaker:" + speaker_id.encode()
        keys = [self.key(tenant, speaker_id), speaker]
        for _ in range(_ATTEMPTS):
            stored = await self._read(tenant, speaker_id)
            count = step(parse_count(stored))
            token = secrets.token_hex(_TOKEN_BYTES // 2).encode()
            new = b"" if count == NO_FAILURES else token + count.encode()
            if await self._evaluate(_PUT, keys, [stored, new]):
                return count
        raise Unavailable("too many verifications of one speaker fail at once; try again")

    async def _read(self, tenant: str, speaker_id: str) -> bytes:
        return await self._evaluate(_GET, [self.key(tenant, speaker_id)], []) or b""

    def key(self, tenant: str, speaker_id: str) -> bytes:
        """The key of the speaker's count."""
        return self._prefix(tenant) + b"failures:" + speaker_id.encode()


def parse_count(record: bytes) -> FailureCount:
    return FailureCount.decode(record[_TOKEN_BYTES:] or None)
