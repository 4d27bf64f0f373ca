"""The shared store: a hash per speaker, an index per tenant, writes that compare the etag in Lua.

    sayso:{tenant}:speaker:<id>   etag, profile, voiceprint:<model id>, used_at:<model id>
    sayso:{tenant}:speakers       sorted set of the ids, all of score 0: lexicographic pages
    sayso:{tenant}:write:<token>  for a minute after a write, so that a retry is not a second write
    sayso:{tenant}:keys           the tenant's wrapped keys: keys.py
    sayso:{tenant}:opt_outs       hash from the SHA-256 of a speaker who opted out to etag and time
    sayso:{tenant}:swept          when the tenant was last swept for expired voices
    (the keys of groups are in groups.py, those of failed verifications in failures.py, those of
    announced calls in calls.py, those of events in events.py)

The tenant in braces, percent-encoded, is the hash tag: on a Cluster a tenant lives in one slot. How
durable an acknowledged write is depends on Redis: only `appendonly yes` with `appendfsync always`
loses none, `everysec` may lose a second, and a failover loses what had not yet reached the replica
(`min-replicas-to-write` narrows that). `maxmemory-policy` must be `noeviction`.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from service.errors import Aborted
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
from service.store.redis.calls import RedisCalls
from service.store.redis.connection import RedisConnection
from service.store.redis.events import RedisEvents
from service.store.redis.failures import RedisFailures, parse_count
from service.store.redis.groups import RedisGroups
from service.store.redis.keys import RedisKeys
from service.store.redis.speakers import (
    DELETE,
    PUT,
    TOUCH,
    format_time,
    index_key,
    keys_key,
    make_prefix,
    opt_outs_key,
    parse_fields,
    speaker_key,
    swept_key,
    write_keys,
)
from service.store.sealed import NewRecords, RecordCodec, StoredRecords

_READ_AT_ONCE = 100  # speakers
_TENANT_KEY = re.compile(rb"sayso:\{([^}]*)\}:(?:speakers|keys)")


class RedisStore:
    """`Store` on one Redis, a Sentinel group or a Cluster."""

    def __init__(self, connection: RedisConnection, sealing: Sealing | None = None) -> None:
        self._connection = connection
        evaluate = connection.evaluate
        self.groups = RedisGroups(evaluate, prefix=make_prefix)
        self.failures = RedisFailures(evaluate, prefix=make_prefix)
        self.calls = RedisCalls(evaluate, prefix=make_prefix)
        self.keys = RedisKeys(evaluate, key=keys_key, index=index_key)
        self.records = RecordCodec(self.keys, sealing)
        self.events = RedisEvents(self.records, evaluate, prefix=make_prefix)

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
        return cls(RedisConnection.from_url(url, timeout_s, max_connections), sealing)

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
        await self._connection.aclose()

    async def ping(self) -> None:
        """Also checks that Redis may keep voices; until it may, other calls raise Unavailable."""
        await self._connection.ping()

    async def get(self, tenant: str, speaker_id: str) -> Speaker | None:
        fields = await self._connection.read_hash(speaker_key(tenant, speaker_id))
        return (
            await self.records.decode(tenant, parse_fields(speaker_id, fields)) if fields else None
        )

    async def get_with_failures(
        self, tenant: str, speaker_id: str
    ) -> tuple[Speaker | None, FailureCount]:
        key, failures = speaker_key(tenant, speaker_id), self.failures.key(tenant, speaker_id)
        fields, record = await self._connection.read_hash_and_string(key, failures)
        stored = parse_fields(speaker_id, fields) if fields else None
        speaker = await self.records.decode(tenant, stored) if stored else None
        return speaker, parse_count(record or b"")

    async def get_many(self, tenant: str, speaker_ids: Sequence[str]) -> Sequence[Speaker]:
        speakers: list[Speaker] = []
        for at in range(0, len(speaker_ids), _READ_AT_ONCE):
            stored = await self._read_records(tenant, speaker_ids[at : at + _READ_AT_ONCE])
            speakers += await self.records.decode_readable(tenant, stored)
        return speakers

    async def list(
        self, tenant: str, *, limit: int, after: str | None = None, descending: bool = False
    ) -> Page:
        speaker_ids, next_after = await self._list_ids(tenant, limit, after, descending=descending)
        return Page(tuple(await self.get_many(tenant, speaker_ids)), next_after)

    async def count(self, tenant: str) -> int:
        return int(await self._connection.call(lambda client: client.zcard(index_key(tenant))))

    async def put(self, speaker: Speaker, *, expected_etag: str | None) -> Speaker:
        stored = replace(speaker, etag=secrets.token_hex(8))
        await self.records.write(stored, lambda written: self._put(written, expected_etag))
        return stored

    async def delete(
        self, tenant: str, speaker_id: str, *, expected_etag: str | None = None
    ) -> bool:
        keys = write_keys(tenant, speaker_id, token=secrets.token_hex(8))
        outcome = await self._eval(DELETE, keys, [expected_etag or "", speaker_id])
        if outcome < 0:
            raise Aborted("the speaker changed since it was read: read it again and retry")
        return bool(outcome)

    async def opted_out(self, tenant: str, speaker_id: str) -> Speaker | None:
        name = hash_subject(tenant, speaker_id).hex()
        opt_out = await self._connection.call(
            lambda client: client.hget(opt_outs_key(tenant), name)
        )
        if opt_out is None:
            return None
        etag, at = opt_out.decode().split()
        return opted_out_speaker(tenant, speaker_id, etag=etag, at=float(at))

    async def swept_at(self, tenant: str) -> float | None:
        at = await self._connection.call(lambda client: client.get(swept_key(tenant)))
        return None if at is None else float(at)

    async def note_sweep(self, tenant: str, *, at: float) -> None:
        await self._connection.call(lambda client: client.set(swept_key(tenant), format_time(at)))

    async def touch(self, tenant: str, speaker_id: str, model_id: str, *, at: float) -> None:
        args = [model_id, format_time(at), format_time(at - USE_RESOLUTION_S)]
        await self._eval(TOUCH, [speaker_key(tenant, speaker_id)], args)

    async def settle(self) -> None:
        """Does nothing: deleted records can remain only in the append-only file, which its operator
        has to rewrite."""

    async def lagging(
        self, tenant: str, beginning: bytes, *, limit: int, after: str | None = None
    ) -> MemberPage:
        speaker_ids, next_after = await self._list_ids(tenant, limit, after)
        keys = [speaker_key(tenant, speaker_id) for speaker_id in speaker_ids]
        profiles = await self._connection.read_field(keys, "profile")
        others = (
            speaker_id
            for speaker_id, profile in zip(speaker_ids, profiles, strict=True)
            if not isinstance(profile, bytes) or not profile.startswith(beginning)
        )
        return MemberPage(tuple(others), next_after)

    async def tenants(self) -> Sequence[str]:
        tenants = set()
        async for names in self._connection.scan(b"sayso:{*}:*s"):
            for match in filter(None, map(_TENANT_KEY.fullmatch, names)):
                tenants.add(unquote(match[1].decode()))
        return sorted(tenants)

    async def _read_records(
        self, tenant: str, speaker_ids: Sequence[str]
    ) -> Sequence[StoredRecords]:
        """Read the speakers that exist; a key that holds no record is reported and skipped."""
        keys = [speaker_key(tenant, speaker_id) for speaker_id in speaker_ids]
        stored = []
        for speaker_id, fields in zip(
            speaker_ids, await self._connection.read_hashes(keys), strict=True
        ):
            try:
                if fields:
                    stored.append(parse_fields(speaker_id, fields))
            except RecordError as error:
                self.records.report_unreadable(tenant, error)
        return stored

    async def _put(self, speaker: NewRecords, expected_etag: str | None) -> bool:
        """Return False, without writing, if the key that sealed the records is not current."""
        keys = write_keys(speaker.tenant, speaker.speaker_id, token=speaker.etag)
        keys += [keys_key(speaker.tenant), opt_outs_key(speaker.tenant)]
        head = (expected_etag or "", speaker.etag, speaker.speaker_id)
        args: list[str | bytes] = [
            *head,
            speaker.profile,
            speaker.history,
            str(speaker.key_version),
            hash_subject(speaker.tenant, speaker.speaker_id).hex(),
            format_time(speaker.opted_out_at),
        ]
        for model_id, record, used_at in speaker.voiceprints:
            args += [model_id, record, format_time(used_at)]
        outcome = await self._eval(PUT, keys, args)
        if not outcome:
            raise Aborted("the speaker changed since it was read: read it again and retry")
        return outcome > 0

    async def _list_ids(
        self, tenant: str, limit: int, after: str | None, *, descending: bool = False
    ) -> tuple[Sequence[str], str | None]:
        """A page of ids, and the id after which the next one begins."""
        first, last = (b"+", b"-") if descending else (b"-", b"+")
        start = first if after is None else b"(" + after.encode()
        index, order = index_key(tenant), "zrevrangebylex" if descending else "zrangebylex"
        names = await self._connection.call(
            lambda client: getattr(client, order)(index, start, last, start=0, num=limit)
        )
        speaker_ids = [name.decode() for name in names]
        return speaker_ids, speaker_ids[-1] if len(speaker_ids) == limit else None

    async def _eval(self, script: str, keys: Sequence[bytes], args: Sequence[str | bytes]) -> int:
        return int(await self._connection.evaluate(script, keys, args))
