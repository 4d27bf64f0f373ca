"""Store voiceprints: one small protocol, two stores.

get -> change -> put(expected_etag) ── the etag still holds ──> written, a new etag
         ^                          └─ it does not: Aborted ─┐
         └────────────── update() reads again <──────────────┘

sqlite:///path          sqlite/   one file, the embedded default
redis[s][+mode]://...   redis/    shared by several servers; mode: sentinel, cluster

groups.py defines groups of speakers, failures.py counts failed verifications, calls.py keeps
announced calls and events.py the latest events; each store implements them in modules of the same
names. sealed.py encodes and seals a speaker's records, and upkeep.py seals records that already
exist and changes keys.

The names of a store's methods are label values of `sayso_store_seconds`, so they do not change.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from service.errors import Aborted, StoreError
from service.sealing import KeyTable, Sealing
from service.settings import LockRule
from service.store.calls import AnnouncedCall, Calls
from service.store.events import EventPage, Events, Horizon, StoredEvent
from service.store.failures import FailureCount, Failures
from service.store.groups import Changes, Group, GroupPage, Groups, MemberPage, Revision
from service.store.records import (
    Consent,
    Page,
    RecordError,
    Speaker,
    SpeakerState,
    Version,
    Voiceprint,
)
from service.store.redis.store import RedisStore
from service.store.sealed import RecordCodec
from service.store.sqlite.store import SqliteStore

__all__ = [
    "AnnouncedCall",
    "Calls",
    "Changes",
    "Consent",
    "EventPage",
    "Events",
    "FailureCount",
    "Failures",
    "Group",
    "GroupPage",
    "Groups",
    "Horizon",
    "LockRule",
    "MemberPage",
    "Page",
    "RecordError",
    "Revision",
    "SealedStore",
    "Sealing",
    "Speaker",
    "SpeakerState",
    "Store",
    "StoredEvent",
    "Version",
    "Voiceprint",
    "open_store",
    "update",
]

_UPDATE_ATTEMPTS = 100


class Store(Protocol):
    """Speakers by tenant and id; no call sees another tenant's. Used under `async with`.

    Every call raises Unavailable while the store is away. After an Unavailable write it is not
    known whether the write took effect: read again.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def aclose(self) -> None: ...

    async def ping(self) -> None:
        """Return when the store answers; raise Unavailable when it does not."""
        ...

    @property
    def groups(self) -> Groups: ...

    @property
    def failures(self) -> Failures: ...

    @property
    def calls(self) -> Calls: ...

    @property
    def events(self) -> Events: ...

    async def get(self, tenant: str, speaker_id: str) -> Speaker | None: ...

    async def get_with_failures(
        self, tenant: str, speaker_id: str
    ) -> tuple[Speaker | None, FailureCount]:
        """As `get` and `failures.get`, in one read: what a verification begins with."""
        ...

    async def get_many(self, tenant: str, speaker_ids: Sequence[str]) -> Sequence[Speaker]:
        """Return the speakers that exist, in no particular order."""
        ...

    async def count(self, tenant: str) -> int:
        """Count the tenant's speakers without reading them."""
        ...

    async def put(self, speaker: Speaker, *, expected_etag: str | None) -> Speaker:
        """Write if the stored etag is still `expected_etag` (None: there is no such speaker yet).

        Returns the speaker with its new etag, durable; raises Aborted when the etag has changed.
        `used_at` counts only for a voiceprint that is new to the store.
        """
        ...

    async def delete(
        self, tenant: str, speaker_id: str, *, expected_etag: str | None = None
    ) -> bool:
        """Erase the speaker; False if there is none. Raises Aborted on another etag, if given.

        An opt-out outlives the speaker: see `opted_out`.
        """
        ...

    async def opted_out(self, tenant: str, speaker_id: str) -> Speaker | None:
        """What is left of a deleted speaker who had opted out. A `put` that creates the speaker
        again has to expect its etag."""
        ...

    async def list(
        self, tenant: str, *, limit: int, after: str | None = None, descending: bool = False
    ) -> Page:
        """Up to `limit` speakers with ids after `after`, in code-point order of their ids, or in
        the opposite one.

        A speaker that exists from the first page to the last is listed exactly once, whatever else
        is written meanwhile.
        """
        ...

    async def touch(self, tenant: str, speaker_id: str, model_id: str, *, at: float) -> None:
        """Note a use of a voiceprint, to the minute. The etag stays; an unknown one is ignored."""
        ...

    async def swept_at(self, tenant: str) -> float | None:
        """When the tenant was last swept for expired voices, by `note_sweep`."""
        ...

    async def note_sweep(self, tenant: str, *, at: float) -> None: ...

    async def tenants(self) -> Sequence[str]:
        """The tenants that have speakers or keys. Takes long: it may read the whole store."""
        ...


class SealedStore(Store, Protocol):
    """A store whose records can be sealed, and whose keys can be changed."""

    @property
    def keys(self) -> KeyTable: ...

    @property
    def records(self) -> RecordCodec: ...

    async def settle(self) -> None:
        """Remove every copy of deleted records; raises StillReadable while another process prevents
        it."""
        ...

    async def lagging(
        self, tenant: str, beginning: bytes, *, limit: int, after: str | None = None
    ) -> MemberPage:
        """List those speakers of a page whose records do not begin with `beginning`."""
        ...


_OPENERS: Mapping[str, Callable[[str, float, Sealing | None], SealedStore]] = {
    "sqlite": SqliteStore.from_url,
    "redis": RedisStore.from_url,
    "rediss": RedisStore.from_url,
    "redis+sentinel": RedisStore.from_url,
    "rediss+sentinel": RedisStore.from_url,
    "redis+cluster": RedisStore.from_url,
    "rediss+cluster": RedisStore.from_url,
}


def open_store(url: str, *, timeout_s: float = 1.0, sealing: Sealing | None = None) -> SealedStore:
    """Make the store at `url`, to be entered by `async with`; raises StoreError on a malformed
    address.

    Without a `sealing` records are written unsealed, and calls for a tenant that has a key raise
    Unavailable. So does a call that Redis does not answer within `timeout_s`, and a write that
    waits as long for other processes' writes to a SQLite file.

    Entering raises StoreError if a SQLite file cannot be used. It does not fail while a Redis is
    away: calls raise Unavailable until it is back.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _OPENERS:
        known = ", ".join(f"{name}://" for name in _OPENERS)
        raise StoreError(f"the store's address must begin with one of {known}")
    return _OPENERS[scheme](url, timeout_s, sealing)


async def update(
    store: Store,
    tenant: str,
    speaker_id: str,
    change: Callable[[Speaker | None], Speaker],
    *,
    create: bool = True,
) -> Speaker:
    """Read a speaker, `change` it and write it back, again if another write came between.

    `change` may be called several times. It gets None for a missing speaker or, with `create`, the
    opt-out that outlived one. Raises Aborted after losing a hundred races in a row.
    """

    async def attempt() -> Speaker:
        current = await store.get(tenant, speaker_id)
        if current is None and create:
            current = await store.opted_out(tenant, speaker_id)
        return await store.put(change(current), expected_etag=current.etag if current else None)

    for _ in range(_UPDATE_ATTEMPTS - 1):
        with contextlib.suppress(Aborted):
            return await attempt()
    return await attempt()
