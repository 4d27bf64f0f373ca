"""Tenants' data keys: created here, stored wrapped in a table, cached unwrapped for a while.

    (none) ──first write──> 1 ──rotate──> 1, 2 ──all is sealed by 2──> 2 ──erase──> closed
                            └──────────────── the last one seals ───────┘

A store checks, in the same step as it writes, that a record is sealed by the tenant's last key, so
no record is ever sealed by a key that was destroyed.

Once all records of a tenant are sealed, its current key is wrapped in a context that says so, and
any unsealed record must be forged. An attacker who can only write to the store cannot undo this,
because a key does not unwrap in another context.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from service.errors import FailedPrecondition
from service.sealing.envelope import DataKey
from service.sealing.kms import Kms
from service.settings import SealingOptions

REREAD_S = 60.0
"""Seconds for which a server may still read voices after another one erased their key."""

UNWRAPPED_S = 3600.0
"""Seconds for which a server works without its KMS, and keeps the keys of an idle tenant."""

_KEY_BYTES = 32
_ALL_SEALED = b"all-sealed:"


@dataclass(frozen=True, slots=True)
class KeySet:
    """A tenant's wrapped keys by version; `current` is the last version, 0 before the first."""

    current: int = 0
    wrapped: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def erased(self) -> bool:
        return self.current > 0 and not self.wrapped


class KeyTable(Protocol):
    """Stores wrapped keys; raises Unavailable while the store is away."""

    async def read(self, tenant: str) -> KeySet: ...

    async def add(
        self, tenant: str, version: int, wrapped: bytes, *, if_empty: bool = False
    ) -> bool:
        """Add a key and make it current; False unless `version` follows the current one and, with
        `if_empty`, the tenant has no speakers."""
        ...

    async def replace(self, tenant: str, version: int, wrapped: bytes, *, expected: bytes) -> bool:
        """Replace the wrapped key `expected`; False if the table holds another one."""
        ...

    async def retire(self, tenant: str, *, before: int) -> None:
        """Destroy the keys of versions before `before`."""
        ...

    async def erase(self, tenant: str) -> None:
        """Destroy all keys of the tenant, but remember that it had some."""
        ...


_DEFAULTS = SealingOptions()


@dataclass(frozen=True, slots=True)
class Sealing:
    """How a store seals: by keys that the KMS wraps, as the operator's `options` say."""

    kms: Kms
    options: SealingOptions = _DEFAULTS
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class _CachedKeys:
    keys: KeySet
    read_at: float
    unwrapped: Mapping[int, tuple[DataKey, float]]  # with the time of unwrapping, seconds


class Keyring:
    """Loads tenants' keys from a table and unwraps them with a KMS."""

    def __init__(self, table: KeyTable, kms: Kms, *, clock: Callable[[], float]) -> None:
        self._table = table
        self._kms = kms
        self._clock = clock
        self._cached: dict[str, _CachedKeys] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def load_keys(self, tenant: str, *, fresh: bool = False) -> Mapping[int, DataKey]:
        """Return the tenant's keys by version; `fresh` bypasses the cache.

        Raises FailedPrecondition once the tenant's keys are erased.
        """
        cached = await self._load(tenant, fresh=fresh)
        if cached.keys.erased:
            raise FailedPrecondition(
                "the key of this tenant was erased, and its voices with it; `sayso tenants "
                "rotate-key` makes a new one"
            )
        return {version: key for version, (key, _) in cached.unwrapped.items()}

    async def load_sealing_key(self, tenant: str, *, fresh: bool = False) -> DataKey:
        """Return the key that seals new records; creates the tenant's first one."""
        keys = await self.load_keys(tenant, fresh=fresh)
        while not keys:
            await self._add(tenant, 1)
            keys = await self.load_keys(tenant, fresh=True)
        return keys[max(keys)]

    async def knows_all_sealed(self, tenant: str) -> bool:
        """Say whether every record of the tenant is known to be sealed."""
        cached = await self._load(tenant, fresh=False)
        return _has_mark(cached.keys.wrapped.get(cached.keys.current, b""))

    async def mark_all_sealed(self, tenant: str) -> None:
        """Mark the current key of a tenant whose records have all just been sealed."""
        keys = await self._table.read(tenant)
        wrapped = keys.wrapped.get(keys.current, b"")
        if not wrapped or _has_mark(wrapped):
            return
        material = await self._unwrap(tenant, keys.current, wrapped)
        marked = await self._wrap(tenant, keys.current, material, all_sealed=True)
        await self._table.replace(tenant, keys.current, marked, expected=wrapped)
        self._cached.pop(tenant, None)

    async def rotate(self, tenant: str) -> DataKey:
        """Add a key that seals from now on; earlier keys still open what they sealed."""
        added = False
        while not added:
            keys = await self._table.read(tenant)
            all_sealed = _has_mark(keys.wrapped.get(keys.current, b""))
            added = await (
                self._try_add(tenant, keys.current + 1, all_sealed=True)
                if all_sealed
                else self._add(tenant, keys.current + 1)
            )
        return await self.load_sealing_key(tenant, fresh=True)

    async def retire(self, tenant: str) -> None:
        """Destroy all keys but the current one, once no record is sealed by them."""
        current = await self.load_sealing_key(tenant, fresh=True)
        await self._table.retire(tenant, before=current.version)
        self._cached.pop(tenant, None)

    async def rewrap(self, tenant: str) -> int:
        """Wrap each key under the newest master key and return how many there are."""
        keys = await self._table.read(tenant)
        for version, wrapped in keys.wrapped.items():
            mark, inner = _split_mark(wrapped)
            context = _make_context(tenant, version, all_sealed=bool(mark))
            renewed = mark + await self._kms.rewrap(inner, context)
            await self._table.replace(tenant, version, renewed, expected=wrapped)
        self._cached.pop(tenant, None)
        return len(keys.wrapped)

    async def erase(self, tenant: str) -> None:
        """Destroy all keys of the tenant: at once here, within `REREAD_S` on other servers."""
        async with self._lock(tenant):  # a read in progress must not cache the keys afterwards
            try:
                await self._table.erase(tenant)
            finally:
                self._cached.pop(tenant, None)

    async def _add(self, tenant: str, version: int) -> bool:
        """Add a new key, marked as all-sealed if the tenant has no speakers yet, since every
        record it gets will then be sealed."""
        added = await self._try_add(tenant, version, all_sealed=True, if_empty=True)
        return added or await self._try_add(tenant, version, all_sealed=False)

    async def _try_add(
        self, tenant: str, version: int, *, all_sealed: bool, if_empty: bool = False
    ) -> bool:
        material = secrets.token_bytes(_KEY_BYTES)
        wrapped = await self._wrap(tenant, version, material, all_sealed=all_sealed)
        return await self._table.add(tenant, version, wrapped, if_empty=if_empty)

    async def _wrap(self, tenant: str, version: int, material: bytes, *, all_sealed: bool) -> bytes:
        context = _make_context(tenant, version, all_sealed=all_sealed)
        return (_ALL_SEALED if all_sealed else b"") + await self._kms.wrap(material, context)

    async def _unwrap(self, tenant: str, version: int, wrapped: bytes) -> bytes:
        mark, inner = _split_mark(wrapped)
        return await self._kms.unwrap(inner, _make_context(tenant, version, all_sealed=bool(mark)))

    async def _load(self, tenant: str, *, fresh: bool) -> _CachedKeys:
        asked_at = self._clock()
        cached = self._cached.get(tenant)
        if cached is not None and not fresh and asked_at < cached.read_at + REREAD_S:
            return cached
        async with self._lock(tenant):
            cached = self._cached.get(tenant)
            if cached is None or cached.read_at <= asked_at:
                cached = await self._read(tenant, cached)
                self._remember(tenant, cached)
            return cached

    def _lock(self, tenant: str) -> asyncio.Lock:
        return self._locks.setdefault(tenant, asyncio.Lock())

    def _remember(self, tenant: str, cached: _CachedKeys) -> None:
        """Cache the keys, and drop those of tenants that were not asked for in `UNWRAPPED_S`."""
        self._cached.pop(tenant, None)
        self._cached[tenant] = cached
        for name in tuple(self._cached):
            if self._cached[name].read_at + UNWRAPPED_S > cached.read_at:
                return
            del self._cached[name]

    async def _read(self, tenant: str, before: _CachedKeys | None) -> _CachedKeys:
        read_at = self._clock()
        keys = await self._table.read(tenant)
        unwrapped = {}
        for version, wrapped in keys.wrapped.items():
            known = before and before.keys.wrapped.get(version) == wrapped
            if before and known and read_at < before.unwrapped[version][1] + UNWRAPPED_S:
                unwrapped[version] = before.unwrapped[version]
            else:
                material = await self._unwrap(tenant, version, wrapped)
                unwrapped[version] = DataKey(version, material), read_at
        return _CachedKeys(keys, read_at, unwrapped)


def _make_context(tenant: str, version: int, *, all_sealed: bool) -> bytes:
    scope = " of all records" if all_sealed else ""
    return f"sayso tenant key {version}{scope}\0{tenant}".encode()


def _has_mark(wrapped: bytes) -> bool:
    return wrapped.startswith(_ALL_SEALED)


def _split_mark(wrapped: bytes) -> tuple[bytes, bytes]:
    """Split a stored key into its mark, which may be empty, and what the KMS wrapped."""
    inner = wrapped.removeprefix(_ALL_SEALED)
    return wrapped[: len(wrapped) - len(inner)], inner
