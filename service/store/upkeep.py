"""Looking after a sealed store: to seal what is there, to change keys, and to destroy them.

    seal     every record by the tenant's current key; the earlier keys are destroyed after that
    rotate   a new key, then seal
    rewrap   every tenant's keys under the newest master key; no record changes
    erase    the tenant's keys destroyed, then what they sealed deleted
    damaged  which records cannot be read, and why; changes nothing

Servers may run meanwhile. A rewriting is a write: the speaker's etag changes.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence

from service.errors import Aborted
from service.sealing.envelope import make_record_prefix
from service.store import RecordError, SealedStore

_PAGE = 200
_PATIENCE = 3  # times in a row that nothing could be rewritten
_NOTHING = b"nothing begins like this"


async def seal(store: SealedStore, tenant: str) -> int:
    """How many speakers were written anew; may be broken off, and run again.

    Raises Unavailable without a master key, as do `rotate` and `rewrap`; RecordError when
    some records cannot be read; StillReadable when all is
    sealed, and a copy of the earlier records is left beside the store.
    """
    keyring, sealing = store.records.require_keys()
    rewritten, stuck, left = 0, 0, True
    while left:
        key = await keyring.load_sealing_key(tenant, fresh=True)
        found = make_record_prefix(key.version, templates_rotated=sealing.protect_templates)
        before, left = rewritten, False
        async for speaker_ids in _lagging(store, tenant, found):
            left = True
            rewritten += await _rewritten(store, tenant, speaker_ids)
        stuck = stuck + 1 if left and rewritten == before else 0
        if stuck == _PATIENCE:
            raise RecordError(
                "some records cannot be read, so they are not sealed: `sayso tenants check` names "
                "them; delete or restore them, and run this again"
            )
    await keyring.retire(tenant)
    await keyring.mark_all_sealed(tenant)
    await store.settle()
    return rewritten


async def rotate(store: SealedStore, tenant: str) -> int:
    """As `seal`, by a key that is new. After an erasure it lets the tenant enrol again."""
    keyring, _ = store.records.require_keys()
    await keyring.rotate(tenant)
    return await seal(store, tenant)


async def rewrap(store: SealedStore) -> int:
    """How many keys there are, of all tenants."""
    keyring, _ = store.records.require_keys()
    return sum([await keyring.rewrap(tenant) for tenant in await store.tenants()])


async def erase(store: SealedStore, tenant: str) -> int:
    """How many speakers were deleted; needs no master key. Raises StillReadable when that is
    done, and a copy is left beside the records."""
    await (store.records.keyring or store.keys).erase(tenant)
    deleted = 0
    async for speaker_ids in _lagging(store, tenant, _NOTHING):
        for speaker_id in speaker_ids:
            deleted += await store.delete(tenant, speaker_id)
    await store.settle()
    return deleted


async def damaged(store: SealedStore, tenant: str) -> AsyncIterator[tuple[str, RecordError]]:
    """Each speaker of whom the store keeps what cannot be read."""
    async for speaker_ids in _lagging(store, tenant, _NOTHING):
        for speaker_id in speaker_ids:
            try:
                await store.get(tenant, speaker_id)
            except RecordError as error:
                yield speaker_id, error


async def _lagging(
    store: SealedStore, tenant: str, beginning_: bytes
) -> AsyncIterator[Sequence[str]]:
    after = None
    while True:
        page = await store.lagging(tenant, beginning_, limit=_PAGE, after=after)
        if page.speaker_ids:
            yield page.speaker_ids
        if page.next_after is None:
            return
        after = page.next_after


async def _rewritten(store: SealedStore, tenant: str, speaker_ids: Sequence[str]) -> int:
    """One that changes meanwhile is sealed by whoever changes it."""
    count = 0
    for speaker in await store.get_many(tenant, speaker_ids):
        with contextlib.suppress(Aborted):
            await store.put(speaker, expected_etag=speaker.etag)
            count += 1
    return count
