"""Everything that is held of one speaker: the answer to a subject's request for access.

The audit trail has a command of its own, `sayso audit find`: only the operator holds its key.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.store import Speaker, Store, Tally
from service.store.lifecycle import no_such_speaker


@dataclass(frozen=True, slots=True)
class Holdings:
    """The record with its vectors and history, the names of the groups that the speaker is in, and
    the failed verifications that are remembered."""

    speaker: Speaker
    groups: Sequence[str]
    failures: Tally


async def holdings(store: Store, tenant: str, speaker_id: str) -> Holdings:
    """Raises `NotFound` for one of whom nothing is held."""
    speaker = await store.get(tenant, speaker_id)
    if speaker is None:
        raise no_such_speaker()
    groups = await store.groups.of(tenant, speaker_id)
    return Holdings(speaker, groups, await store.failures.get(tenant, speaker_id))
