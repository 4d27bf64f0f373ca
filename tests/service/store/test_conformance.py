"""What every store must do, run against each of them."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from service.errors import Aborted
from service.store import (
    Consent,
    Speaker,
    SpeakerState,
    Store,
    Voiceprint,
    open_store,
    update,
)

MakeSpeaker = Callable[..., Speaker]

ODD_IDS = [
    "a:b",
    "{tag}",
    "}{",
    "per%25cent",
    "sp ace\ttab\nline",
    "speakers",
    "speaker:alice",
    "alice",
    "Алиса",
    "アリス",
    "👩‍🦰",
    "'; DROP TABLE speaker; --",
    "*?[a-z]",
    "x" * 128,
    "\u007f",
    "ÿ",
    "\uffff",
    "\U0010ffff",
]


async def test_round_trip(store: Store, make_speaker: MakeSpeaker) -> None:
    other = Voiceprint("model-b", np.ones((2, 3), np.float32), np.ones(2, np.float32), 5.0, 7.5)
    speaker = make_speaker()
    speaker = replace(
        speaker,
        voiceprints={**speaker.voiceprints, "model-b": other},
        metadata={"line": "mobile", "Ключ": "значение"},
        consent=Consent("form 27", 1_699_999_999.125),
    )
    written = await store.put(speaker, expected_etag=None)
    assert written == replace(speaker, etag=written.etag)
    assert await store.get(speaker.tenant, speaker.speaker_id) == written


async def test_a_speaker_may_hold_no_voice(store: Store, make_speaker: MakeSpeaker) -> None:
    speaker = make_speaker(state=SpeakerState.OPTED_OUT, voiceprints={})
    written = await store.put(speaker, expected_etag=None)
    assert await store.get(speaker.tenant, "alice") == written


async def test_unknown_speaker(store: Store, tenant: str) -> None:
    assert await store.get(tenant, "nobody") is None
    assert not await store.delete(tenant, "nobody")
    assert not await store.delete(tenant, "nobody", expected_etag="any")
    await store.touch(tenant, "nobody", "model-a", at=1.0)
    assert await store.get(tenant, "nobody") is None
    assert (await store.list(tenant, limit=10)).speakers == ()


async def test_create_twice(store: Store, make_speaker: MakeSpeaker) -> None:
    first = await store.put(make_speaker(), expected_etag=None)
    with pytest.raises(Aborted):
        await store.put(make_speaker(metadata={"late": "yes"}), expected_etag=None)
    assert await store.get(first.tenant, "alice") == first


async def test_stale_etag(store: Store, make_speaker: MakeSpeaker) -> None:
    first = await store.put(make_speaker(), expected_etag=None)
    second = await store.put(replace(first, metadata={"n": "2"}), expected_etag=first.etag)
    assert second.etag != first.etag
    with pytest.raises(Aborted):
        await store.put(replace(first, metadata={"n": "3"}), expected_etag=first.etag)
    with pytest.raises(Aborted):
        await store.delete(first.tenant, "alice", expected_etag=first.etag)
    assert await store.get(first.tenant, "alice") == second


async def test_update_of_what_is_gone(store: Store, make_speaker: MakeSpeaker) -> None:
    first = await store.put(make_speaker(), expected_etag=None)
    await store.delete(first.tenant, "alice")
    with pytest.raises(Aborted):
        await store.put(first, expected_etag=first.etag)
    assert await store.get(first.tenant, "alice") is None


async def test_put_replaces_voiceprints(store: Store, make_speaker: MakeSpeaker) -> None:
    first = await store.put(make_speaker(vectors=5), expected_etag=None)
    moved = Voiceprint("model-b", np.ones((1, 2), np.float32), np.ones(1, np.float32), 5.0)
    second = await store.put(
        replace(first, voiceprints={"model-b": moved}), expected_etag=first.etag
    )
    assert await store.get(first.tenant, "alice") == second


async def test_delete(store: Store, make_speaker: MakeSpeaker) -> None:
    first = await store.put(make_speaker(), expected_etag=None)
    assert await store.delete(first.tenant, "alice", expected_etag=first.etag)
    assert await store.get(first.tenant, "alice") is None
    assert (await store.list(first.tenant, limit=10)).speakers == ()
    again = await store.put(make_speaker(vectors=2), expected_etag=None)
    assert await store.get(first.tenant, "alice") == again
    assert await store.delete(first.tenant, "alice")
    assert not await store.delete(first.tenant, "alice")


async def test_concurrent_appends_lose_nothing(
    store: Store, address: str, make_speaker: MakeSpeaker
) -> None:
    """Two servers, ten enrolments at once on each."""

    def append(number: int) -> Callable[[Speaker | None], Speaker]:
        def change(found: Speaker | None) -> Speaker:
            held = (found or make_speaker(vectors=0)).voiceprints["model-a"]
            grown = replace(
                held,
                vectors=np.vstack([held.vectors, np.full((1, 4), number, np.float32)]),
                speech_s=np.append(held.speech_s, np.float32(number)),
            )
            return replace(found or make_speaker(), voiceprints={"model-a": grown})

        return change

    tenant = make_speaker().tenant
    async with open_store(address, timeout_s=10.0) as other:
        await asyncio.gather(
            *(
                update((store, other)[number % 2], tenant, "alice", append(number))
                for number in range(20)
            )
        )
    found = await store.get(tenant, "alice")
    assert found is not None
    held = found.voiceprints["model-a"]
    assert sorted(held.vectors[:, 0]) == list(range(20))
    assert np.array_equal(held.vectors[:, 3], held.speech_s)


async def test_concurrent_creation_has_one_winner(store: Store, make_speaker: MakeSpeaker) -> None:
    speakers = [make_speaker(metadata={"n": str(n)}) for n in range(10)]
    outcomes = await asyncio.gather(
        *(store.put(speaker, expected_etag=None) for speaker in speakers), return_exceptions=True
    )
    winners = [outcome for outcome in outcomes if isinstance(outcome, Speaker)]
    assert len(winners) == 1
    assert [type(outcome) for outcome in outcomes].count(Aborted) == 9, outcomes
    assert await store.get(winners[0].tenant, "alice") == winners[0]


async def _ids(store: Store, tenant: str, limit: int, *, descending: bool = False) -> list[str]:
    ids: list[str] = []
    after = None
    while True:
        page = await store.list(tenant, limit=limit, after=after, descending=descending)
        assert len(page.speakers) <= limit
        ids += [speaker.speaker_id for speaker in page.speakers]
        if page.next_after is None:
            return ids
        after = page.next_after


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_pages(store: Store, make_speaker: MakeSpeaker, limit: int) -> None:
    speakers = {}
    for number in random.Random(0).sample(range(21), 21):
        speaker_id = f"{number:02}"
        speakers[speaker_id] = await store.put(make_speaker(speaker_id), expected_etag=None)
    tenant = make_speaker().tenant
    assert await _ids(store, tenant, limit) == sorted(speakers)
    page = await store.list(tenant, limit=limit, after="04")
    assert list(page.speakers) == [speakers[name] for name in sorted(speakers)[5 : 5 + limit]]
    assert await _ids(store, tenant, limit, descending=True) == sorted(speakers, reverse=True)
    page = await store.list(tenant, limit=limit, after="04", descending=True)
    assert list(page.speakers) == [speakers[f"0{number}"] for number in (3, 2, 1, 0)[:limit]]


async def test_pages_are_stable_under_change(store: Store, make_speaker: MakeSpeaker) -> None:
    steady = {f"{number:03}-steady" for number in range(30)}
    for speaker_id in steady:
        await store.put(make_speaker(speaker_id), expected_etag=None)
    tenant = make_speaker().tenant

    async def churn() -> None:
        rng = random.Random(1)
        while True:
            speaker_id = f"{rng.randrange(30):03}-{rng.choice('az')}{rng.randrange(3)}"
            if not await store.delete(tenant, speaker_id):
                await store.put(make_speaker(speaker_id), expected_etag=None)

    changing = asyncio.create_task(churn())
    for descending in (False, True, False, True):
        ids = await _ids(store, tenant, limit=4, descending=descending)
        assert ids == sorted(set(ids), reverse=descending)
        assert steady <= set(ids)
    assert not changing.done()
    changing.cancel()
    await asyncio.wait([changing])


async def test_tenants_are_apart(store: Store, make_speaker: MakeSpeaker) -> None:
    mine = await store.put(make_speaker(), expected_etag=None)
    for other in (mine.tenant + ":", mine.tenant + "}", mine.tenant[:-1], "{" + mine.tenant, "%7B"):
        assert await store.get(other, "alice") is None
        assert (await store.list(other, limit=10)).speakers == ()
        assert not await store.delete(other, "alice")
        await store.touch(other, "alice", "model-a", at=1.0)
        theirs = await store.put(make_speaker(tenant=other, vectors=3), expected_etag=None)
        assert await store.get(other, "alice") == theirs
        assert await store.delete(other, "alice")
    assert await store.get(mine.tenant, "alice") == mine


async def test_odd_ids(store: Store, make_speaker: MakeSpeaker) -> None:
    written = {}
    for speaker_id in ODD_IDS:
        speaker = make_speaker(speaker_id, metadata={"id": speaker_id})
        held = replace(speaker.voiceprints["model-a"], model_id=speaker_id)
        speaker = replace(speaker, voiceprints={speaker_id: held})
        written[speaker_id] = await store.put(speaker, expected_etag=None)
    tenant = make_speaker().tenant
    for speaker_id in ODD_IDS:
        await store.touch(tenant, speaker_id, speaker_id, at=9.0)
        found = await store.get(tenant, speaker_id)
        assert found is not None
        assert found.voiceprints[speaker_id].used_at == 9.0
        assert found.etag == written[speaker_id].etag
    assert await _ids(store, tenant, 4) == sorted(ODD_IDS)
    for speaker_id in ODD_IDS:
        assert await store.delete(tenant, speaker_id)
    assert await _ids(store, tenant, 4) == []


async def test_big_records(store: Store, make_speaker: MakeSpeaker) -> None:
    speakers = [
        await store.put(make_speaker(f"{n:02}", vectors=50, dim=256), expected_etag=None)
        for n in range(20)
    ]
    page = await store.list(speakers[0].tenant, limit=100)
    assert list(page.speakers) == speakers


async def test_touch(store: Store, make_speaker: MakeSpeaker) -> None:
    speaker = await store.put(make_speaker(), expected_etag=None)

    async def voice() -> Voiceprint:
        found = await store.get(speaker.tenant, "alice")
        assert found is not None
        assert found.etag == speaker.etag
        return found.voiceprints["model-a"]

    uses = [(1000.5, 1000.5), (1030.0, 1000.5), (1060.5, 1060.5), (900.0, 1060.5)]
    for at, expected in uses:
        before = await voice()
        await store.touch(speaker.tenant, "alice", "model-a", at=at)
        assert (await voice()).used_at == expected
        assert before.has_noted_use(at) == (before.used_at == expected)
    await store.touch(speaker.tenant, "alice", "another model", at=5000.0)
    assert (await voice()).used_at == 1060.5


async def test_put_does_not_undo_a_use(store: Store, make_speaker: MakeSpeaker) -> None:
    speaker = await store.put(make_speaker(), expected_etag=None)
    await store.touch(speaker.tenant, "alice", "model-a", at=1000.0)
    await store.put(replace(speaker, metadata={"n": "2"}), expected_etag=speaker.etag)
    found = await store.get(speaker.tenant, "alice")
    assert found is not None
    assert found.voiceprints["model-a"].used_at == 1000.0


async def test_cancelled_calls_never_cross(store: Store, make_speaker: MakeSpeaker) -> None:
    """A cancelled read must not leave its reply for the next caller."""
    names = [f"{n:02}" for n in range(10)]
    written = {
        name: await store.put(make_speaker(name, vectors=20, dim=256), expected_etag=None)
        for name in names
    }
    tenant = make_speaker().tenant
    rng = random.Random(2)
    survivors = 0
    for _ in range(30):
        reads = {
            name: asyncio.create_task(store.get(tenant, name)) for name in rng.sample(names, 10)
        }
        await asyncio.sleep(rng.random() * 0.005)
        for name in rng.sample(names, 5):
            reads[name].cancel()
        for name, outcome in zip(
            reads, await asyncio.gather(*reads.values(), return_exceptions=True), strict=True
        ):
            if not isinstance(outcome, asyncio.CancelledError):
                assert outcome == written[name]
                survivors += 1
    assert survivors >= 150


async def test_ping(store: Store) -> None:
    await store.ping()


async def test_persists_over_reopening(address: str, make_speaker: MakeSpeaker) -> None:
    async with open_store(address, timeout_s=10.0) as store:
        written = await store.put(make_speaker(vectors=3), expected_etag=None)
    async with open_store(address, timeout_s=10.0) as store:
        assert await store.get(written.tenant, "alice") == written
