"""Migration: how many speakers have moved from the previous model to the current one."""

from dataclasses import dataclass, replace

from service.speakers.succession import Succession
from service.store import Speaker, SpeakerState, Store
from service.store.lifecycle import Retention

_PAGE = 1000
_IN_SERVICE = (SpeakerState.ENROLLED, SpeakerState.UNCONFIRMED)


@dataclass(frozen=True, slots=True)
class Migration:
    """Of the speakers who are enrolled, confirmed or not: those who are compared in the space of
    the current model, or wait in that of the previous one, of whom some have `begun` to move, or
    have voiceprints of neither."""

    moved: int = 0
    waiting: int = 0
    begun: int = 0
    stranded: int = 0


async def migration(
    store: Store, tenant: str, succession: Succession, retention: Retention
) -> Migration:
    """Counts every speaker of the tenant, page by page."""
    counted, after = Migration(), None
    while True:
        page = await store.list(tenant, limit=_PAGE, after=after)
        for speaker in page.speakers:
            if retention.state(speaker) in _IN_SERVICE:
                counted = _with(counted, speaker, succession)
        if page.next_after is None:
            return counted
        after = page.next_after


def _with(counted: Migration, speaker: Speaker, succession: Succession) -> Migration:
    held, current = succession.in_use(speaker.voiceprints), succession.model_ids[0]
    if held is None:
        return replace(counted, stranded=counted.stranded + 1)
    if held.model_id == current:
        return replace(counted, moved=counted.moved + 1)
    begun = counted.begun + (current in speaker.voiceprints)
    return replace(counted, waiting=counted.waiting + 1, begun=begun)
