"""Maintains a sealed store while servers run.

    seal          seals every record by the tenant's current key, then destroys the earlier keys
    rotate        makes a new key, then seals
    rewrap        wraps every tenant's keys under the newest master key; no record changes
    erase         destroys the tenant's keys, then deletes what they sealed
    find_damaged  says which records cannot be read, and why; changes nothing

Sealing a speaker again is a write: its etag changes.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence

from service.errors import Aborted
from service.sealing.envelope import make_record_prefix
from service.store import RecordError, SealedStore

_PAGE = 200
_MOST_STUCK_ROUNDS = 3  # in a row, in which nothing could be rewritten
_NO_RECORD = b"no record begins like this"


async def seal(store: SealedStore, tenant: str) -> int:
    """Seal every record by the current key and return how many speakers were rewritten.

    It may be interrupted and run again.

    Raises Unavailable without a master key, as do `rotate` and `rewrap`; RecordError when some
    records cannot be read; StillReadable when all is sealed but a copy of earlier records remains.
    """
    keyring, sealing = store.records.require_keys()
    rewritten, stuck, left = 0, 0, True
    while left:
        key = await keyring.load_sealing_key(tenant, fresh=True)
        prefix = make_record_prefix(
            key.version, templates_rotated=sealing.options.protect_templates
        )
        before, left = rewritten, False
        async for speaker_ids in _list_lagging(store, tenant, prefix):
            left = True
            rewritten += await _rewrite(store, tenant, speaker_ids)
        stuck = stuck + 1 if left and rewritten == before else 0
        if stuck == _MOST_STUCK_ROUNDS:
            raise RecordError(
                "some records cannot be read, so they are not sealed: `sayso tenants check` names "
                "them; delete or restore them, and run this again"
            )
    await keyring.retire(tenant)
    await keyring.mark_all_sealed(tenant)
    await store.settle()
    return rewritten


async def rotate(store: SealedStore, tenant: str) -> int:
    """Seal by a new key. After an erasure this lets the tenant enroll again."""
    keyring, _ = store.records.require_keys()
    await keyring.rotate(tenant)
    return await seal(store, tenant)


async def rewrap(store: SealedStore) -> int:
    """Wrap all tenants' keys under the newest master key and return how many there are."""
    keyring, _ = store.records.require_keys()
    return sum([await keyring.rewrap(tenant) for tenant in await store.tenants()])


async def erase(store: SealedStore, tenant: str) -> int:
    """Erase a tenant's keys, then its speakers, and return how many; needs no master key.

    Raises StillReadable when that is done but a copy of the records remains.
    """
    await (store.records.keyring or store.keys).erase(tenant)
    deleted = 0
    async for speaker_ids in _list_lagging(store, tenant, _NO_RECORD):
        for speaker_id in speaker_ids:
            deleted += await store.delete(tenant, speaker_id)
    await store.settle()
    return deleted


async def find_damaged(store: SealedStore, tenant: str) -> AsyncIterator[tuple[str, RecordError]]:
    """Yield each speaker whose records cannot be read, and why."""
    async for speaker_ids in _list_lagging(store, tenant, _NO_RECORD):
        for speaker_id in speaker_ids:
            try:
                await store.get(tenant, speaker_id)
            except RecordError as error:
                yield speaker_id, error


async def _list_lagging(
    store: SealedStore, tenant: str, beginning: bytes
) -> AsyncIterator[Sequence[str]]:
    """List page by page the speakers whose records do not begin with `beginning`."""
    after = None
    while True:
        page = await store.lagging(tenant, beginning, limit=_PAGE, after=after)
        if page.speaker_ids:
            yield page.speaker_ids
        if page.next_after is None:
            return
        after = page.next_after


async def _rewrite(store: SealedStore, tenant: str, speaker_ids: Sequence[str]) -> int:
    """Rewrite speakers; one that changes meanwhile is sealed by that other write."""
    count = 0
    for speaker in await store.get_many(tenant, speaker_ids):
        with contextlib.suppress(Aborted):
            await store.put(speaker, expected_etag=speaker.etag)
            count += 1
    return count
