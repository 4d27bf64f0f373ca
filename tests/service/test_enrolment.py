import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from service.decision import Demands, Reason
from service.embedder import Utterance
from service.enrolment import Enroller, EnrolmentRequest
from service.errors import Aborted, FailedPrecondition
from service.quality import Quality
from service.store import Speaker, SpeakerState, Store, open_store

ALICE = EnrolmentRequest(tenant="t", speaker_id="alice")


def utterance(axis: int = 0, speech_s: float = 2.0) -> Utterance:
    quality = Quality(speech_s, speech_s + 1, snr_db=20.0, clipping=0.0, peak_dbfs=-3.0)
    return Utterance(np.eye(4, dtype=np.float32)[axis], quality, windows=1)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path / 'sayso.db'}") as opened:
        yield opened


@pytest.fixture
def enroller(store: Store) -> Enroller:
    return make(store)


def make(store: Store, *, model_id: str = "m", max_vectors: int = 3) -> Enroller:
    return Enroller(
        store,
        model_id=model_id,
        demands=Demands(min_speech_s=0.5, min_snr_db=0.0, max_clipping=0.1),
        min_speech_s=5.0,
        max_vectors=max_vectors,
        clock=lambda: 1000.0,
    )


async def test_speech_adds_up_to_an_enrolment(enroller: Enroller) -> None:
    assert (await enroller.open(ALICE)).needed_s == 5
    for speech_s, state in ((2, "pending"), (4, "pending"), (6, "enrolled")):
        made = await enroller.add(ALICE, utterance())
        assert made.speaker is not None
        assert made.speaker.state.value == state
        assert made.progress.speech_s == pytest.approx(speech_s)
        assert made.progress.needed_s == pytest.approx(max(0, 5 - speech_s))


async def test_poor_audio_is_not_stored_and_says_why(enroller: Enroller, store: Store) -> None:
    await enroller.add(ALICE, utterance())
    made = await enroller.add(ALICE, utterance(speech_s=0.2))
    assert made.speaker is None
    assert made.reasons == (Reason.NOT_ENOUGH_SPEECH,)
    assert made.progress.speech_s == pytest.approx(2)
    found = await store.get("t", "alice")
    assert found is not None
    assert len(found.voiceprints["m"].speech_s) == 1


async def test_the_longest_vectors_are_kept_in_order(enroller: Enroller) -> None:
    for axis, speech_s in enumerate((3.0, 1.0, 4.0, 2.0)):
        made = await enroller.add(ALICE, utterance(axis, speech_s))
    assert made.speaker is not None
    kept = made.speaker.voiceprints["m"]
    assert kept.speech_s.tolist() == [3, 4, 2]
    assert kept.vectors.argmax(axis=1).tolist() == [0, 2, 3]


async def test_replacing_forgets_what_was_enrolled(enroller: Enroller, store: Store) -> None:
    await make(store, model_id="older").add(ALICE, utterance())
    await enroller.add(ALICE, utterance(speech_s=9))
    replacing = EnrolmentRequest("t", "alice", replacing=True)
    made = await enroller.add(replacing, utterance(axis=1))
    assert made.speaker is not None
    assert set(made.speaker.voiceprints) == {"m"}
    assert made.speaker.state is SpeakerState.PENDING
    assert made.progress.speech_s == pytest.approx(2)


async def test_models_keep_their_own_vectors(enroller: Enroller, store: Store) -> None:
    await enroller.add(ALICE, utterance())
    made = await make(store, model_id="newer").add(ALICE, utterance(speech_s=3))
    assert made.speaker is not None
    assert set(made.speaker.voiceprints) == {"m", "newer"}
    assert made.progress.speech_s == pytest.approx(3)


async def test_metadata_is_merged(enroller: Enroller) -> None:
    await enroller.add(EnrolmentRequest("t", "alice", metadata={"a": "1", "b": "1"}), utterance())
    changed = EnrolmentRequest("t", "alice", metadata={"b": "2"})
    made = await enroller.add(changed, utterance())
    assert made.speaker is not None
    assert made.speaker.metadata == {"a": "1", "b": "2"}


async def test_a_stale_etag_is_aborted_and_changes_nothing(
    enroller: Enroller, store: Store
) -> None:
    first = await enroller.add(ALICE, utterance())
    assert first.speaker is not None
    conditional = EnrolmentRequest("t", "alice", etag=first.speaker.etag)
    second = await enroller.add(conditional, utterance())
    assert second.speaker is not None
    with pytest.raises(Aborted):
        await enroller.add(conditional, utterance())
    found = await store.get("t", "alice")
    assert found is not None
    assert found.etag == second.speaker.etag


async def test_enrolments_at_once_lose_nothing(store: Store) -> None:
    enroller = make(store, max_vectors=50)
    await asyncio.gather(*(enroller.add(ALICE, utterance()) for _ in range(20)))
    found = await store.get("t", "alice")
    assert found is not None
    assert len(found.voiceprints["m"].speech_s) == 20


async def test_one_who_opted_out_is_refused(enroller: Enroller, store: Store) -> None:
    opted_out = Speaker("t", "alice", SpeakerState.OPTED_OUT, created_at=0.0, updated_at=0.0)
    await store.put(opted_out, expected_etag=None)
    with pytest.raises(FailedPrecondition, match="opted out"):
        await enroller.open(ALICE)
    with pytest.raises(FailedPrecondition, match="opted out"):
        await enroller.add(ALICE, utterance())
