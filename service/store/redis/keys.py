"""Wrapped keys of tenants in Redis: a hash from version to wrapped key, changed in Lua.

sayso:{tenant}:keys   <version> for each key; current: the last version, negative once erased
"""

from collections.abc import Callable

from service.sealing import KeySet
from service.store.redis.groups import Evaluate

_READ = "return redis.call('HGETALL', KEYS[1])"

# KEYS: keys, index of speakers. ARGV: version, wrapped key, 1 for a tenant without speakers only.
# If the key is there already, an earlier try wrote it and its reply was lost.
_ADD = """
local current = math.abs(tonumber(redis.call('HGET', KEYS[1], 'current') or '0'))
local version = tonumber(ARGV[1])
if current == version and redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return 1 end
if current + 1 ~= version then return 0 end
if ARGV[3] == '1' and redis.call('ZCARD', KEYS[2]) > 0 then return 0 end
redis.call('HSET', KEYS[1], 'current', ARGV[1], ARGV[1], ARGV[2])
return 1
"""

# ARGV: version, new wrapped key, expected wrapped key.
_REPLACE = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored == ARGV[2] then return 1 end
if stored ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""

# ARGV: the first version that stays.
_RETIRE = """
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local version = tonumber(name)
  if version and version < tonumber(ARGV[1]) then redis.call('HDEL', KEYS[1], name) end
end
return 1
"""

_ERASE = """
local current = tonumber(redis.call('HGET', KEYS[1], 'current') or '0')
redis.call('DEL', KEYS[1])
if current ~= 0 then redis.call('HSET', KEYS[1], 'current', -math.abs(current)) end
return 1
"""


class RedisKeys:
    """`KeyTable` on Redis. `evaluate` runs scripts; `key` gives the key of a tenant's hash, `index`
    that of its speakers' ids."""

    def __init__(
        self, evaluate: Evaluate, *, key: Callable[[str], bytes], index: Callable[[str], bytes]
    ) -> None:
        self._evaluate = evaluate
        self._key = key
        self._index = index

    async def read(self, tenant: str) -> KeySet:
        flat = await self._evaluate(_READ, [self._key(tenant)], [])
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        current = abs(int(fields.pop(b"current", b"0")))
        return KeySet(current, {int(version): wrapped for version, wrapped in fields.items()})

    async def add(
        self, tenant: str, version: int, wrapped: bytes, *, if_empty: bool = False
    ) -> bool:
        keys = [self._key(tenant), self._index(tenant)]
        return bool(await self._evaluate(_ADD, keys, [version, wrapped, int(if_empty)]))

    async def replace(self, tenant: str, version: int, wrapped: bytes, *, expected: bytes) -> bool:
        arguments = (version, wrapped, expected)
        return bool(await self._evaluate(_REPLACE, [self._key(tenant)], arguments))

    async def retire(self, tenant: str, *, before: int) -> None:
        await self._evaluate(_RETIRE, [self._key(tenant)], [before])

    async def erase(self, tenant: str) -> None:
        await self._evaluate(_ERASE, [self._key(tenant)], [])
