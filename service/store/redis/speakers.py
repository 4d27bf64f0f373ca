"""A speaker in Redis: the names of its keys, the scripts that write it, and how it is parsed."""

from collections.abc import Mapping
from urllib.parse import quote

from redis.exceptions import ResponseError

from service.store.records import RecordError
from service.store.redis.groups import SPEAKER_DELETED, SPEAKER_WRITTEN
from service.store.sealed import StoredRecords

_VOICEPRINT = b"voiceprint:"

# KEYS: speaker, index, write, keys, opt-outs. ARGV: expected etag ('' for none), new etag, speaker
# id, profile, history, key version (0 for none), subject, when it opted out ('' if it did not),
# then model id, record and used_at ('' for never) of each voiceprint.
PUT = (
    SPEAKER_WRITTEN
    + """
if redis.call('EXISTS', KEYS[3]) == 1 then return 1 end
if (redis.call('HGET', KEYS[4], 'current') or '0') ~= ARGV[6] then return -1 end
local etag = redis.call('HGET', KEYS[1], 'etag')
if not etag then
  local opt_out = redis.call('HGET', KEYS[5], ARGV[7])
  etag = opt_out and opt_out:match('^%S+') or ''
end
if etag ~= ARGV[1] then return 0 end
-- a full Redis refuses this write; it would take one that comes after a deletion
redis.call('HSET', KEYS[1], 'etag', ARGV[2], 'profile', ARGV[4], 'history', ARGV[5])
local kept = {etag = true, profile = true, history = true}
for i = 9, #ARGV, 3 do
  local record, used_at = 'voiceprint:' .. ARGV[i], 'used_at:' .. ARGV[i]
  kept[record], kept[used_at] = true, true
  if redis.call('HSET', KEYS[1], record, ARGV[i + 1]) == 1 and ARGV[i + 2] ~= '' then
    redis.call('HSET', KEYS[1], used_at, ARGV[i + 2])
  end
end
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if not kept[name] then redis.call('HDEL', KEYS[1], name) end
end
if ARGV[8] == '' then
  redis.call('HDEL', KEYS[5], ARGV[7])
else
  redis.call('HSET', KEYS[5], ARGV[7], ARGV[2] .. ' ' .. ARGV[8])
end
redis.call('ZADD', KEYS[2], 0, ARGV[3])
speaker_written(KEYS[2]:sub(1, -#'speakers' - 1), ARGV[3])
redis.call('SET', KEYS[3], 1, 'EX', 60)
return 1
"""
)

# KEYS: speaker, index, write. ARGV: expected etag ('' for any), speaker id. A key that holds
# no record can be deleted, too.
DELETE = (
    SPEAKER_DELETED
    + """
if redis.call('EXISTS', KEYS[3]) == 1 then return 1 end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local etag = redis.pcall('HGET', KEYS[1], 'etag')
if type(etag) ~= 'string' then etag = '' end
if ARGV[1] ~= '' and etag ~= ARGV[1] then return -1 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
local tenant = KEYS[2]:sub(1, -#'speakers' - 1)
speaker_deleted(tenant, ARGV[2])
redis.call('DEL', tenant .. 'failures:' .. ARGV[2])
redis.call('SET', KEYS[3], 1, 'EX', 60)
return 1
"""
)

# KEYS: speaker. ARGV: model id, used_at, the latest stored used_at worth replacing.
TOUCH = """
local name = 'used_at:' .. ARGV[1]
if redis.call('HEXISTS', KEYS[1], 'voiceprint:' .. ARGV[1]) == 0 then return 0 end
local stored = redis.call('HGET', KEYS[1], name)
if not stored or tonumber(stored) <= tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], name, ARGV[2])
end
return 1
"""


def make_prefix(tenant: str) -> bytes:
    return f"sayso:{{{quote(tenant, safe='')}}}:".encode()


def index_key(tenant: str) -> bytes:
    return make_prefix(tenant) + b"speakers"


def opt_outs_key(tenant: str) -> bytes:
    return make_prefix(tenant) + b"opt_outs"


def swept_key(tenant: str) -> bytes:
    return make_prefix(tenant) + b"swept"


def speaker_key(tenant: str, speaker_id: str) -> bytes:
    return make_prefix(tenant) + b"speaker:" + speaker_id.encode()


def write_keys(tenant: str, speaker_id: str, *, token: str) -> list[bytes]:
    write = make_prefix(tenant) + b"write:" + token.encode()
    return [speaker_key(tenant, speaker_id), index_key(tenant), write]


def keys_key(tenant: str) -> bytes:
    return make_prefix(tenant) + b"keys"


def format_time(at: float | None) -> str:
    return "" if at is None else repr(float(at))


def parse_fields(speaker_id: str, fields: Mapping[bytes, bytes] | ResponseError) -> StoredRecords:
    """Raise RecordError for fields that no Sayso server wrote."""
    if isinstance(fields, ResponseError):
        raise RecordError("the key of a stored record holds another type of value")

    def used_at(model_id: bytes) -> float | None:
        stored = fields.get(b"used_at:" + model_id)
        return None if stored is None else float(stored)

    models = [name[len(_VOICEPRINT) :] for name in fields if name.startswith(_VOICEPRINT)]
    try:
        return StoredRecords(
            speaker_id,
            etag=fields[b"etag"].decode(),
            profile=fields[b"profile"],
            history=fields.get(b"history", b""),
            voiceprints=[
                (model_id.decode(), fields[_VOICEPRINT + model_id], used_at(model_id))
                for model_id in sorted(models)
            ],
        )
    except (KeyError, ValueError) as error:
        raise RecordError("a stored record lacks a field, or one of them is torn") from error
