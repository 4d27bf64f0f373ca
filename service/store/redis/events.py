"""Events in Redis: a stream, whose ids are their numbers.

sayso:{tenant}:events        stream of at, record; the id of event 7 is 7-0
sayso:{tenant}:events_count  the number of the last event, which outlives it
sayso:{tenant}:write:<token>  as for speakers, so that a retry does not append twice
"""

import secrets
from collections.abc import Callable, Sequence

from service.store.events import EventPage, Horizon, StoredEvent, open_page, seal_events
from service.store.redis.groups import Evaluate
from service.store.redis.speakers import format_time
from service.store.sealed import RecordCodec

# KEYS: stream, count, write. ARGV: at, most, oldest_at, then the records.
_APPEND = """
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
for i = 4, #ARGV do
  last = last + 1
  redis.call('XADD', KEYS[1], string.format('%d-0', last), 'at', ARGV[1], 'record', ARGV[i])
end
redis.call('SET', KEYS[2], last)
redis.call('SET', KEYS[3], 1, 'EX', 60)
redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[2])
while true do
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if not first or tonumber(first[2][2]) >= tonumber(ARGV[3]) then return last end
  redis.call('XDEL', KEYS[1], first[1])
end
"""

# KEYS: as above. ARGV: after, limit.
_READ = """
local stored = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])
return {stored, tonumber(redis.call('GET', KEYS[2]) or '0')}
"""


class RedisEvents:
    """`Events` on Redis. `evaluate` runs scripts; `prefix` begins a tenant's keys."""

    def __init__(
        self, codec: RecordCodec, evaluate: Evaluate, *, prefix: Callable[[str], bytes]
    ) -> None:
        self._codec = codec
        self._evaluate = evaluate
        self._prefix = prefix

    async def append(
        self, tenant: str, records: Sequence[bytes], *, at: float, horizon: Horizon
    ) -> None:
        sealed = await seal_events(self._codec, tenant, records, at=at)
        times = format_time(at), str(horizon.most), format_time(horizon.oldest_at)
        write = self._prefix(tenant) + b"write:" + secrets.token_hex(8).encode()
        keys = [*self._keys(tenant), write]
        await self._evaluate(_APPEND, keys, [*times, *sealed])

    async def read(self, tenant: str, *, after: int, limit: int) -> EventPage:
        rows, last = await self._evaluate(_READ, self._keys(tenant), [str(after), str(limit)])
        stored = [_parse(event_id, fields) for event_id, fields in rows]
        return await open_page(self._codec, tenant, stored, last=last)

    def _keys(self, tenant: str) -> list[bytes]:
        prefix = self._prefix(tenant)
        return [prefix + b"events", prefix + b"events_count"]


def _parse(event_id: bytes, fields: Sequence[bytes]) -> StoredEvent:
    _, at, _, record = fields
    return StoredEvent(int(event_id.partition(b"-")[0]), float(at), record)
