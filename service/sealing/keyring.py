"""The data keys of tenants: made, kept wrapped in a table, unwrapped for a while in memory.

    (none) ──first write──> 1 ──rotate──> 1, 2 ──all is sealed by 2──> 2 ──erase──> closed
                            └──────────────── the last one seals ───────┘

A store refuses a write that is not sealed by the tenant's last key, in the same step as it writes,
so no record is ever sealed by a key that is gone.

Once all records of a tenant are sealed, its current key is wrapped in a context that says so: a
record that is not sealed was then put there by someone else. Who may only write to the store cannot
take that back, as a wrapped key does not unwrap in another context than its own.
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

REREAD_S = 60.0
"""For how long a server may go on reading the voices of a tenant whose key was erased."""

UNWRAPPED_S = 3600.0
"""For how long a server can do without its KMS, and keeps a key that it does not use."""

_KEY_BYTES = 32
_ALL_SEALED = b"all-sealed:"


@dataclass(frozen=True, slots=True)
class KeySet:
    """A tenant's wrapped keys by version; `current` is the last version there was, 0 for none."""

    current: int = 0
    wrapped: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def erased(self) -> bool:
        return self.current > 0 and not self.wrapped


class KeyTable(Protocol):
    """Where wrapped keys are kept; raises Unavailable while the store is away."""

    async def read(self, tenant: str) -> KeySet: ...

    async def add(
        self, tenant: str, version: int, wrapped: bytes, *, if_empty: bool = False
    ) -> bool:
        """Make it the current one; False unless it follows the one that is current and, with
        `if_empty`, the tenant has no speakers."""
        ...

    async def replace(self, tenant: str, version: int, wrapped: bytes, *, expected: bytes) -> bool:
        """Put the same key, wrapped anew, in place of `expected`; False if that is not there."""
        ...

    async def retire(self, tenant: str, *, before: int) -> None:
        """Destroy the keys of versions before that one."""
        ...

    async def erase(self, tenant: str) -> None:
        """Destroy all keys of the tenant, and remember that there were some."""
        ...


@dataclass(frozen=True, slots=True)
class Sealing:
    """How a store seals. With `sealed_only`, a record that is not sealed is refused, not read;
    None refuses those of tenants that are known to have none."""

    kms: Kms
    protect_templates: bool = False
    sealed_only: bool | None = None
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class _Held:
    keys: KeySet
    read_at: float
    unwrapped: Mapping[int, tuple[DataKey, float]]  # and when


class Keyring:
    """The keys of every tenant that asks, by way of a table and a KMS."""

    def __init__(self, table: KeyTable, kms: Kms, *, clock: Callable[[], float]) -> None:
        self._table = table
        self._kms = kms
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._reading: dict[str, asyncio.Lock] = {}

    async def reading(self, tenant: str, *, fresh: bool = False) -> Mapping[int, DataKey]:
        """Keys by version; `fresh` ones are read anew. Raises FailedPrecondition once erased."""
        held = await self._current(tenant, fresh=fresh)
        if held.keys.erased:
            raise FailedPrecondition(
                "the key of this tenant was erased, and its voices with it; `sayso tenants "
                "rotate-key` makes a new one"
            )
        return {version: key for version, (key, _) in held.unwrapped.items()}

    async def writing(self, tenant: str, *, fresh: bool = False) -> DataKey:
        """The key that seals, made if there is none."""
        keys = await self.reading(tenant, fresh=fresh)
        while not keys:
            await self._begin(tenant, 1)
            keys = await self.reading(tenant, fresh=True)
        return keys[max(keys)]

    async def all_sealed(self, tenant: str) -> bool:
        """Whether every record of the tenant is known to be sealed."""
        held = await self._current(tenant, fresh=False)
        return _says_all_sealed(held.keys.wrapped.get(held.keys.current, b""))

    async def note_all_sealed(self, tenant: str) -> None:
        """Of a tenant whose every record has just been seen to be sealed."""
        keys = await self._table.read(tenant)
        wrapped = keys.wrapped.get(keys.current, b"")
        if not wrapped or _says_all_sealed(wrapped):
            return
        material = await self._unwrapped(tenant, keys.current, wrapped)
        marked = await self._wrapped(tenant, keys.current, material, all_sealed=True)
        await self._table.replace(tenant, keys.current, marked, expected=wrapped)
        self._held.pop(tenant, None)

    async def rotate(self, tenant: str) -> DataKey:
        """A new key, which seals from now on; the earlier ones still open what they sealed."""
        added = False
        while not added:
            keys = await self._table.read(tenant)
            all_sealed = _says_all_sealed(keys.wrapped.get(keys.current, b""))
            added = await (
                self._add(tenant, keys.current + 1, all_sealed=True)
                if all_sealed
                else self._begin(tenant, keys.current + 1)
            )
        return await self.writing(tenant, fresh=True)

    async def retire(self, tenant: str) -> None:
        """Destroys all keys but the current one: nothing is to be sealed by them any more."""
        current = await self.writing(tenant, fresh=True)
        await self._table.retire(tenant, before=current.version)
        self._held.pop(tenant, None)

    async def rewrap(self, tenant: str) -> int:
        """Wraps each key under the newest master key; how many there are."""
        keys = await self._table.read(tenant)
        for version, wrapped in keys.wrapped.items():
            mark, inner = _parted(wrapped)
            context = _context(tenant, version, all_sealed=bool(mark))
            renewed = mark + await self._kms.rewrap(inner, context)
            await self._table.replace(tenant, version, renewed, expected=wrapped)
        self._held.pop(tenant, None)
        return len(keys.wrapped)

    async def erase(self, tenant: str) -> None:
        """Destroys all keys of the tenant: at once here, within `REREAD_S` on other servers."""
        async with self._lock(tenant):  # what is being read now was there before
            try:
                await self._table.erase(tenant)
            finally:
                self._held.pop(tenant, None)

    async def _begin(self, tenant: str, version: int) -> bool:
        """Adds the first key that there is; all that a tenant without speakers gets will be
        sealed by it."""
        added = await self._add(tenant, version, all_sealed=True, if_empty=True)
        return added or await self._add(tenant, version, all_sealed=False)

    async def _add(
        self, tenant: str, version: int, *, all_sealed: bool, if_empty: bool = False
    ) -> bool:
        material = secrets.token_bytes(_KEY_BYTES)
        wrapped = await self._wrapped(tenant, version, material, all_sealed=all_sealed)
        return await self._table.add(tenant, version, wrapped, if_empty=if_empty)

    async def _wrapped(
        self, tenant: str, version: int, material: bytes, *, all_sealed: bool
    ) -> bytes:
        context = _context(tenant, version, all_sealed=all_sealed)
        return (_ALL_SEALED if all_sealed else b"") + await self._kms.wrap(material, context)

    async def _unwrapped(self, tenant: str, version: int, wrapped: bytes) -> bytes:
        mark, inner = _parted(wrapped)
        return await self._kms.unwrap(inner, _context(tenant, version, all_sealed=bool(mark)))

    async def _current(self, tenant: str, *, fresh: bool) -> _Held:
        asked_at = self._clock()
        held = self._held.get(tenant)
        if held is not None and not fresh and asked_at < held.read_at + REREAD_S:
            return held
        async with self._lock(tenant):
            held = self._held.get(tenant)
            if held is None or held.read_at <= asked_at:
                held = await self._read(tenant, held)
                self._keep(tenant, held)
            return held

    def _lock(self, tenant: str) -> asyncio.Lock:
        return self._reading.setdefault(tenant, asyncio.Lock())

    def _keep(self, tenant: str, held: _Held) -> None:
        """As the latest; those of tenants that nobody has asked for since long are forgotten."""
        self._held.pop(tenant, None)
        self._held[tenant] = held
        for name in tuple(self._held):
            if self._held[name].read_at + UNWRAPPED_S > held.read_at:
                return
            del self._held[name]

    async def _read(self, tenant: str, before: _Held | None) -> _Held:
        read_at = self._clock()
        keys = await self._table.read(tenant)
        unwrapped = {}
        for version, wrapped in keys.wrapped.items():
            known = before and before.keys.wrapped.get(version) == wrapped
            if before and known and read_at < before.unwrapped[version][1] + UNWRAPPED_S:
                unwrapped[version] = before.unwrapped[version]
            else:
                material = await self._unwrapped(tenant, version, wrapped)
                unwrapped[version] = DataKey(version, material), read_at
        return _Held(keys, read_at, unwrapped)


def _context(tenant: str, version: int, *, all_sealed: bool) -> bytes:
    said = " of all records" if all_sealed else ""
    return f"sayso tenant key {version}{said}\0{tenant}".encode()


def _says_all_sealed(wrapped: bytes) -> bool:
    return wrapped.startswith(_ALL_SEALED)


def _parted(wrapped: bytes) -> tuple[bytes, bytes]:
    """The mark, if there is one, and what the KMS wrapped."""
    inner = wrapped.removeprefix(_ALL_SEALED)
    return wrapped[: len(wrapped) - len(inner)], inner
