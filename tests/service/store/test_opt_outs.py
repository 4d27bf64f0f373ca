"""An opt-out outlives the speaker: nobody is enrolled anew until it is taken back."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from service.errors import Aborted, NotFound
from service.speakers.lifecycle import change_speaker, opt_in, opt_out
from service.store import SealedStore, Speaker, SpeakerState, upkeep

MakeSpeaker = Callable[..., Speaker]


async def opt_out_and_delete(store: SealedStore, speaker: Speaker) -> None:
    stored = await store.put(speaker, expected_etag=None)
    gone = await store.put(opt_out(stored, now=5.0), expected_etag=stored.etag)
    assert await store.opted_out(gone.tenant, gone.speaker_id) == replace(
        *(gone,), created_at=5.0, updated_at=5.0
    )
    assert await store.delete(gone.tenant, gone.speaker_id)


async def test_what_is_left_is_an_opt_out_and_no_speaker(
    store: SealedStore, make_speaker: MakeSpeaker
) -> None:
    speaker = make_speaker()
    await opt_out_and_delete(store, speaker)
    assert await store.get(speaker.tenant, "alice") is None
    assert (await store.list(speaker.tenant, limit=5)).speakers == ()
    assert await store.count(speaker.tenant) == 0
    left = await store.opted_out(speaker.tenant, "alice")
    assert left is not None
    assert (left.state, left.opted_out_at) == (SpeakerState.OPTED_OUT, 5.0)
    assert await store.opted_out(speaker.tenant, "bob") is None


async def test_nothing_is_enrolled_over_it(store: SealedStore, make_speaker: MakeSpeaker) -> None:
    speaker = make_speaker()
    await opt_out_and_delete(store, speaker)
    with pytest.raises(Aborted):
        await store.put(speaker, expected_etag=None)
    states = []

    def step(found: Speaker) -> Speaker:
        states.append(found.state)
        return found

    await change_speaker(store, speaker.tenant, "alice", step, new=speaker)
    assert states == [SpeakerState.OPTED_OUT]
    assert await store.delete(speaker.tenant, "alice")
    with pytest.raises(NotFound):
        await change_speaker(store, speaker.tenant, "alice", step)


async def test_opting_in_takes_it_back(store: SealedStore, make_speaker: MakeSpeaker) -> None:
    speaker = make_speaker()
    await opt_out_and_delete(store, speaker)
    back = await change_speaker(
        store, speaker.tenant, "alice", lambda found: opt_in(found, now=9.0), new=speaker
    )
    assert back.state is SpeakerState.PENDING
    assert await store.opted_out(speaker.tenant, "alice") is None
    assert await store.delete(speaker.tenant, "alice")
    assert await store.put(speaker, expected_etag=None)


async def test_it_survives_the_erasure_of_the_tenant(
    store: SealedStore, make_speaker: MakeSpeaker
) -> None:
    stored = await store.put(make_speaker(), expected_etag=None)
    await store.put(opt_out(stored, now=5.0), expected_etag=stored.etag)
    assert await upkeep.erase(store, stored.tenant) == 1
    assert await store.opted_out(stored.tenant, "alice") is not None


async def test_of_two_at_once_one_is_refused(store: SealedStore, make_speaker: MakeSpeaker) -> None:
    speaker = make_speaker()
    await opt_out_and_delete(store, speaker)
    left = await store.opted_out(speaker.tenant, "alice")
    assert left is not None
    outcomes = await asyncio.gather(
        *(store.put(opt_in(left, now=9.0), expected_etag=left.etag) for _ in range(2)),
        return_exceptions=True,
    )
    assert {type(outcome) for outcome in outcomes} == {Speaker, Aborted}
