"""The shared store: a hash per speaker, an index per tenant, writes that compare the etag in Lua.

    sayso:{tenant}:speaker:<id>   etag, profile, voiceprint:<model id>, used_at:<model id>
    sayso:{tenant}:speakers       sorted set of the ids, all of score 0: lexicographic pages
    sayso:{tenant}:write:<token>  for a minute after a write, so that a retry is not a second write
    sayso:{tenant}:keys           the tenant's wrapped keys: keys.py
    sayso:{tenant}:opt_outs       hash from the SHA-256 of a speaker who opted out to etag and time
    sayso:{tenant}:swept          when the tenant was last swept for expired voices
    (the keys of groups are in groups.py, those of failed verifications in failures.py)

The tenant in braces, percent-encoded, is the hash tag: on a Cluster a tenant lives in one slot. How
durable an acknowledged write is depends on Redis: only `appendonly yes` with `appendfsync always`
loses none, `everysec` may lose a second, and a failover loses what had not yet reached the replica
(`min-replicas-to-write` narrows that). `maxmemory-policy` must be `noeviction`.
"""

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import Aborted, Unavailable
from service.sealing import Sealing
from service.store.failures import FailureCount
from service.store.groups import MemberPage
from service.store.records import (
    USE_RESOLUTION_S,
    Page,
    RecordError,
    Speaker,
    hash_subject,
    opted_out_speaker,
)
from service.store.redis.address import Address, Mode
from service.store.redis.failures import RedisFailures, parse_count
from service.store.redis.groups import SPEAKER_DELETED, SPEAKER_WRITTEN, RedisGroups
from service.store.redis.health import REPLICA, Client, explain, find_fault, write_by_script
from service.store.redis.keys import RedisKeys
from service.store.redis.sentinel import Sentinels
from service.store.sealed import NewRecords, RecordCodec, StoredRecords

_VOICEPRINT = b"voiceprint:"
_BACKOFF = ExponentialWithJitterBackoff(base=0.01, cap=0.1)
_RETRIES = 5
_SCANNED = 1000  # keys that Redis looks at for one answer
_READ_AT_ONCE = 100  # speakers
_FAILED = (RedisError, RedisClusterException, OSError)
_TENANT_KEY = re.compile(rb"sayso:\{([^}]*)\}:(?:speakers|keys)")
_RETRIED = (RedisConnectionError, RedisTimeoutError, ReadOnlyError)

# KEYS: speaker, index, write, keys, opt-outs. ARGV: expected etag ('' for none), new etag, speaker
# id, profile, history, key version (0 for none), subject, when it opted out ('' if it did not),
# then model id, record and used_at ('' for never) of each voiceprint.
_PUT = (
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
_DELETE = (
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
_TOUCH = """
local name = 'used_at:' .. ARGV[1]
if redis.call('HEXISTS', KEYS[1], 'voiceprint:' .. ARGV[1]) == 0 then return 0 end
local stored = redis.call('HGET', KEYS[1], name)
if not stored or tonumber(stored) <= tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], name, ARGV[2])
end
return 1
"""


class RedisStore:
    """`Store` on one Redis, a Sentinel group or a Cluster; connects when first asked.

    A call raises Unavailable if it is not answered within `timeout_s`, which includes retries and
    the wait for one of `max_connections`.
    """

    def __init__(
        self,
        client: Client,
        *,
        sentinel: Sentinels | None = None,
        timeout_s: float = 1.0,
        max_connections: int = 64,
        sealing: Sealing | None = None,
    ) -> None:
        self._client = client
        self._sentinel = sentinel
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(max_connections)
        self._fault: str | None = None
        self.groups = RedisGroups(self._evaluate, prefix=_prefix)
        self.failures = RedisFailures(self._evaluate, prefix=_prefix)
        self.keys = RedisKeys(self._evaluate, key=keys_key, index=_index_key)
        self.records = RecordCodec(self.keys, sealing)

    @classmethod
    def from_url(
        cls,
        url: str,
        timeout_s: float = 1.0,
        sealing: Sealing | None = None,
        *,
        max_connections: int = 64,
    ) -> Self:
        """A store not yet connected; raises StoreError unless `Address.parse` reads it."""
        address = Address.parse(url)
        options = {
            "username": address.username,
            "password": address.password,
            "max_connections": max_connections,
            "retry": Retry(_BACKOFF, _RETRIES, _RETRIED),
            # `_ask_in_time` keeps the time: with a socket timeout redis-py sends under
            # `asyncio.wait_for`, which up to Python 3.11 can swallow a cancellation.
            "socket_timeout": None,
            "socket_connect_timeout": timeout_s / 2,
            # In RESP3 redis-py takes a connection from its pool even if an old reply is unread.
            "protocol": 2,
            **address.tls,
        }
        client, sentinel = _CONNECTORS[address.mode](address, options)
        return cls(
            client,
            sentinel=sentinel,
            timeout_s=timeout_s,
            max_connections=max_connections,
            sealing=sealing,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._client.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    async def ping(self) -> None:
        """Also checks that Redis may keep voices; until it may, other calls raise Unavailable."""
        follows_master = self._sentinel is not None
        try:
            await self._ask_in_time(lambda: write_by_script(self._client))
        except Unavailable as error:
            stale = error.message == REPLICA and not follows_master
            self._fault = REPLICA if stale else None
            raise
        self._fault = await self._ask_in_time(
            lambda: find_fault(self._client, follows_master=follows_master)
        )
        if self._fault is not None:
            raise Unavailable(self._fault)

    async def get(self, tenant: str, speaker_id: str) -> Speaker | None:
        fields = await self._call(lambda: self._read_hash(speaker_key(tenant, speaker_id)))
        return (
            await self.records.decode(tenant, _parse_fields(speaker_id, fields)) if fields else None
        )

    async def get_with_failures(
        self, tenant: str, speaker_id: str
    ) -> tuple[Speaker | None, FailureCount]:
        key, failures = speaker_key(tenant, speaker_id), self.failures.key(tenant, speaker_id)
        fields, record = await self._call(lambda: self._read_hash_and_string(key, failures))
        stored = _parse_fields(speaker_id, fields) if fields else None
        speaker = await self.records.decode(tenant, stored) if stored else None
        return speaker, parse_count(record or b"")

    async def get_many(self, tenant: str, speaker_ids: Sequence[str]) -> Sequence[Speaker]:
        speakers: list[Speaker] = []
        for at in range(0, len(speaker_ids), _READ_AT_ONCE):
            stored = await self._read_records(tenant, speaker_ids[at : at + _READ_AT_ONCE])
            speakers += await self.records.decode_readable(tenant, stored)
        return speakers

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> Page:
        speaker_ids, next_after = await self._list_ids(tenant, limit, after)
        return Page(tuple(await self.get_many(tenant, speaker_ids)), next_after)

    async def count(self, tenant: str) -> int:
        return int(await self._call(lambda: self._client.zcard(_index_key(tenant))))

    async def put(self, speaker: Speaker, *, expected_etag: str | None) -> Speaker:
        stored = replace(speaker, etag=secrets.token_hex(8))
        await self.records.write(stored, lambda written: self._put(written, expected_etag))
        return stored

    async def delete(
        self, tenant: str, speaker_id: str, *, expected_etag: str | None = None
    ) -> bool:
        keys = _write_keys(tenant, speaker_id, token=secrets.token_hex(8))
        outcome = await self._eval(_DELETE, keys, [expected_etag or "", speaker_id])
        if outcome < 0:
            raise Aborted("the speaker changed since it was read: read it again and retry")
        return bool(outcome)

    async def opted_out(self, tenant: str, speaker_id: str) -> Speaker | None:
        name = hash_subject(tenant, speaker_id).hex()
        opt_out = await self._call(lambda: self._client.hget(_opt_outs_key(tenant), name))
        if opt_out is None:
            return None
        etag, at = opt_out.decode().split()
        return opted_out_speaker(tenant, speaker_id, etag=etag, at=float(at))

    async def swept_at(self, tenant: str) -> float | None:
        at = await self._call(lambda: self._client.get(_swept_key(tenant)))
        return None if at is None else float(at)

    async def note_sweep(self, tenant: str, *, at: float) -> None:
        await self._call(lambda: self._client.set(_swept_key(tenant), _format_time(at)))

    async def touch(self, tenant: str, speaker_id: str, model_id: str, *, at: float) -> None:
        args = [model_id, _format_time(at), _format_time(at - USE_RESOLUTION_S)]
        await self._eval(_TOUCH, [speaker_key(tenant, speaker_id)], args)

    async def settle(self) -> None:
        """Does nothing: deleted records can remain only in the append-only file, which its operator
        has to rewrite."""

    async def lagging(
        self, tenant: str, beginning: bytes, *, limit: int, after: str | None = None
    ) -> MemberPage:
        speaker_ids, next_after = await self._list_ids(tenant, limit, after)
        keys = [speaker_key(tenant, speaker_id) for speaker_id in speaker_ids]
        profiles = await self._call(lambda: self._read_profiles(keys))
        others = (
            speaker_id
            for speaker_id, profile in zip(speaker_ids, profiles, strict=True)
            if not isinstance(profile, bytes) or not profile.startswith(beginning)
        )
        return MemberPage(tuple(others), next_after)

    async def tenants(self) -> Sequence[str]:
        tenants = set()
        async for names in self._scan(b"sayso:{*}:*s"):
            for match in filter(None, map(_TENANT_KEY.fullmatch, names)):
                tenants.add(unquote(match[1].decode()))
        return sorted(tenants)

    async def _scan(self, pattern: bytes) -> AsyncIterator[Sequence[bytes]]:
        """List names of keys, one round trip at a time. Each of them has `timeout_s`, however many
        keys there are and however few match."""
        scan = partial(self._client.scan, match=pattern, count=_SCANNED)
        if isinstance(self._client, Redis):
            cursor, names = await self._call(scan)
            yield names
            while cursor:
                cursor, names = await self._call(partial(scan, cursor))
                yield names
            return
        cursors, names = await self._call(scan)
        yield names
        for name, cursor in cursors.items():
            node = self._client.get_node(node_name=name)
            while cursor:
                next_cursors, names = await self._call(partial(scan, cursor, target_nodes=node))
                cursor = next_cursors[name]  # noqa: PLW2901
                yield names

    async def _read_records(
        self, tenant: str, speaker_ids: Sequence[str]
    ) -> Sequence[StoredRecords]:
        """Read the speakers that exist; a key that holds no record is reported and skipped."""
        keys = [speaker_key(tenant, speaker_id) for speaker_id in speaker_ids]
        stored = []
        for speaker_id, fields in zip(
            speaker_ids, await self._call(lambda: self._read_hashes(keys)), strict=True
        ):
            try:
                if fields:
                    stored.append(_parse_fields(speaker_id, fields))
            except RecordError as error:
                self.records.report_unreadable(tenant, error)
        return stored

    async def _put(self, speaker: NewRecords, expected_etag: str | None) -> bool:
        """Returns False, without writing, if the key that sealed the records is not current."""
        keys = _write_keys(speaker.tenant, speaker.speaker_id, token=speaker.etag)
        keys += [keys_key(speaker.tenant), _opt_outs_key(speaker.tenant)]
        head = (expected_etag or "", speaker.etag, speaker.speaker_id)
        args: list[str | bytes] = [
            *head,
            speaker.profile,
            speaker.history,
            str(speaker.key_version),
            hash_subject(speaker.tenant, speaker.speaker_id).hex(),
            _format_time(speaker.opted_out_at),
        ]
        for model_id, record, used_at in speaker.voiceprints:
            args += [model_id, record, _format_time(used_at)]
        outcome = await self._eval(_PUT, keys, args)
        if not outcome:
            raise Aborted("the speaker changed since it was read: read it again and retry")
        return outcome > 0

    async def _list_ids(
        self, tenant: str, limit: int, after: str | None
    ) -> tuple[Sequence[str], str | None]:
        """A page of ids, and the id after which the next one begins."""
        start = b"[" if after is None else b"(" + after.encode()
        index = _index_key(tenant)
        names = await self._call(
            lambda: self._client.zrangebylex(index, start, b"+", start=0, num=limit)
        )
        speaker_ids = [name.decode() for name in names]
        return speaker_ids, speaker_ids[-1] if len(speaker_ids) == limit else None

    async def _eval(self, script: str, keys: Sequence[bytes], args: Sequence[str | bytes]) -> int:
        return int(await self._evaluate(script, keys, args))

    async def _evaluate(
        self, script: str, keys: Sequence[bytes], args: Sequence[str | bytes | int]
    ) -> Any:
        return await self._call(lambda: self._client.eval(script, len(keys), *keys, *args))

    async def _read_hash(self, key: bytes) -> Mapping[bytes, bytes] | ResponseError:
        try:
            fields: Mapping[bytes, bytes] = await self._client.hgetall(key)  # type: ignore[assignment]
        except ResponseError as error:
            if not _is_wrong_type(error):
                raise
            return error
        return fields

    async def _read_hash_and_string(
        self, key: bytes, other: bytes
    ) -> tuple[Mapping[bytes, bytes] | ResponseError, bytes | None]:
        """The hash at `key` and the string at `other`, both of one tenant, in one round trip."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hgetall(key)
        pipeline.get(other)
        fields, value = await pipeline.execute(raise_on_error=False)
        _raise_unless_wrong_type([fields])
        if isinstance(value, Exception):
            raise value
        return fields, value

    async def _read_hashes(
        self, keys: Sequence[bytes]
    ) -> Sequence[Mapping[bytes, bytes] | ResponseError]:
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall(key)
        return _raise_unless_wrong_type(await pipeline.execute(raise_on_error=False))

    async def _read_profiles(self, keys: Sequence[bytes]) -> Sequence[bytes | ResponseError | None]:
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.hget(key, "profile")
        return _raise_unless_wrong_type(await pipeline.execute(raise_on_error=False))

    async def _call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        if self._fault is not None:
            raise Unavailable(self._fault)
        return await self._ask_in_time(work)

    async def _ask_in_time(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do `work`, and again if the connection fails or half of the time is over.

        Only a new command makes redis-py ask the Sentinels again where the master is.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._free:
                with contextlib.suppress(TimeoutError, RedisConnectionError):
                    async with asyncio.timeout(self._timeout_s / 2):
                        return await work()
                return await work()
        except _FAILED as error:
            raise Unavailable(explain(error)) from error


def _raise_unless_wrong_type(replies: Sequence[Any]) -> Sequence[Any]:
    """Return the replies; raises the first error that is not about the type of a single key."""
    for reply in replies:
        if isinstance(reply, Exception) and not _is_wrong_type(reply):
            raise reply
    return replies


def _is_wrong_type(error: Exception) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")


def _prefix(tenant: str) -> bytes:
    return f"sayso:{{{quote(tenant, safe='')}}}:".encode()


def _index_key(tenant: str) -> bytes:
    return _prefix(tenant) + b"speakers"


def _opt_outs_key(tenant: str) -> bytes:
    return _prefix(tenant) + b"opt_outs"


def _swept_key(tenant: str) -> bytes:
    return _prefix(tenant) + b"swept"


def speaker_key(tenant: str, speaker_id: str) -> bytes:
    return _prefix(tenant) + b"speaker:" + speaker_id.encode()


def _write_keys(tenant: str, speaker_id: str, *, token: str) -> list[bytes]:
    write = _prefix(tenant) + b"write:" + token.encode()
    return [speaker_key(tenant, speaker_id), _index_key(tenant), write]


def keys_key(tenant: str) -> bytes:
    return _prefix(tenant) + b"keys"


def _format_time(at: float | None) -> str:
    return "" if at is None else repr(float(at))


def _parse_fields(speaker_id: str, fields: Mapping[bytes, bytes] | ResponseError) -> StoredRecords:
    """Raises RecordError for fields that no Sayso server wrote."""
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


def _connect_single(
    address: Address, options: Mapping[str, Any]
) -> tuple[Client, Sentinels | None]:
    (host, port), *_ = address.nodes
    return Redis(host=host, port=port, db=address.db, **options), None


def _connect_sentinel(
    address: Address, options: Mapping[str, Any]
) -> tuple[Client, Sentinels | None]:
    credentials = {"username": address.sentinel_username, "password": address.sentinel_password}
    sentinel = Sentinels(  # type: ignore[no-untyped-call]
        address.nodes,
        sentinel_kwargs={**options, **credentials},
        db=address.db,
        **options,
    )
    return sentinel.master_for(address.group), sentinel


def _connect_cluster(
    address: Address, options: Mapping[str, Any]
) -> tuple[Client, Sentinels | None]:
    nodes = [ClusterNode(host, port) for host, port in address.nodes]
    return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options), None


_CONNECTORS = {
    Mode.SINGLE: _connect_single,
    Mode.SENTINEL: _connect_sentinel,
    Mode.CLUSTER: _connect_cluster,
}
