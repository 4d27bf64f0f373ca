"""A store whose speakers are kept in memory while Redis says that nothing changed.

    get ─┬─ held ─── confirm ─── still held ──> from memory, after one small answer of Redis
         └─ not ──── watch ───── read ────────> held, unless it changed while it was read

A read that begins after the reply to a write, on whichever server either was, sees that write: all
changes that came before are taken in (`confirm`) before anything is given from memory, one question
for all the reads of a moment. What that saves of a read is its transfer, opening and decoding, not
the way to Redis and back. Without the connection that tells of changes, the store is asked.

Held is what was read, opened: templates in the clear, in this process's memory as during a
verification. They go when the speaker or the keys of its tenant change, so with an erasure, too.
SQLite has no such cache: a read of the file is short already, and all that the file could tell is
that something in it changed.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

from service.errors import Unavailable
from service.store import Speaker, Store
from service.store.redis.address import Address, Mode
from service.store.redis.line import Line
from service.store.redis.store import keys_key, speaker_key
from service.store.redis.tracking import Tracking

_PATIENCE = 0.25  # of the store's, before the store is asked instead


def cached(
    store: Store,
    url: str,
    *,
    speakers: int,
    timeout_s: float = 1.0,
    observe: Callable[[bool], None] = lambda hit: None,
) -> Store:
    """`store`, which was opened at `url`, with up to `speakers` of a Redis in memory; 0 for none.

    A Cluster and SQLite have none. `observe` is told of each read whether it was spared.
    """
    if not speakers or not url.startswith(("redis:", "rediss:", "redis+", "rediss+")):
        return store
    address = Address.parse(url)
    if address.mode is Mode.CLUSTER:
        return store
    connect = partial(Line.open, address)
    caching = CachedStore(
        store, connect, speakers=speakers, timeout_s=timeout_s * _PATIENCE, observe=observe
    )
    return cast(Store, caching)


class CachedStore:
    """`Store`: what is not defined here is the inner store's own."""

    def __init__(
        self,
        inner: Store,
        connect: Callable[[], Awaitable[Line]],
        *,
        speakers: int,
        timeout_s: float,
        observe: Callable[[bool], None],
    ) -> None:
        self._inner = inner
        self._speakers = speakers
        self._observe = observe
        self._tracking = Tracking(connect, self._changed, timeout_s=timeout_s)
        self._held: OrderedDict[bytes, Speaker] = OrderedDict()
        self._reading: dict[bytes, object] = {}
        self._fit = True

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        await self._tracking.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._tracking.__aexit__(kind, error, trace)
        await self._inner.__aexit__(kind, error, trace)

    async def aclose(self) -> None:
        await self.__aexit__(None, None, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def ping(self) -> None:
        """What is in memory is given only while the store is fit to be asked."""
        try:
            await self._inner.ping()
        except Unavailable:
            self._fit = False
            raise
        self._fit = True

    async def get(self, tenant: str, speaker_id: str) -> Speaker | None:
        key = speaker_key(tenant, speaker_id)
        if (
            self._fit
            and key in self._held
            and await self._tracking.confirm()
            and (found := self._held.get(key))
        ):
            self._held.move_to_end(key)
            self._observe(True)
            return found
        self._observe(False)
        return await self._read(key, tenant, speaker_id)

    async def put(self, speaker: Speaker, *, expected_etag: str | None) -> Speaker:
        try:
            return await self._inner.put(speaker, expected_etag=expected_etag)
        finally:
            self._forget(speaker_key(speaker.tenant, speaker.speaker_id))

    async def delete(
        self, tenant: str, speaker_id: str, *, expected_etag: str | None = None
    ) -> bool:
        try:
            return await self._inner.delete(tenant, speaker_id, expected_etag=expected_etag)
        finally:
            self._forget(speaker_key(tenant, speaker_id))

    async def _read(self, key: bytes, tenant: str, speaker_id: str) -> Speaker | None:
        """Watched before it is read; a change in between takes the mark away."""
        mark = self._reading[key] = object()
        try:
            watched = await self._tracking.watch(key, keys_key(tenant))
            found = await self._inner.get(tenant, speaker_id)
            if watched and found is not None and self._reading.get(key) is mark:
                self._hold(key, found)
            return found
        finally:
            if self._reading.get(key) is mark:
                del self._reading[key]

    def _hold(self, key: bytes, speaker: Speaker) -> None:
        self._held[key] = speaker
        if len(self._held) > self._speakers:
            self._held.popitem(last=False)

    def _changed(self, key: bytes | None) -> None:
        """A speaker, the keys of a tenant, or None for anything."""
        if key is None:
            self._held.clear()
            self._reading.clear()
            return
        tenant, _, name = key.partition(b"}:")
        affected = [key]
        if name == b"keys":
            everyone = {*self._held, *self._reading}
            affected = [each for each in everyone if each.startswith(tenant + b"}:")]
        for each in affected:
            self._forget(each)

    def _forget(self, key: bytes) -> None:
        self._held.pop(key, None)
        self._reading.pop(key, None)
