"""What a call that was accepted adds to a voice, and what never does."""

import logging
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from service.audio.quality import Quality
from service.audit import Auditor, Origin
from service.contract import Calibration, Contract
from service.decisions.decision import Decision, Outcome, Score
from service.decisions.policy import QualityGate, ThresholdSource
from service.decisions.scoring import l2_normalize
from service.decisions.thresholds import Threshold
from service.inference.embedder import Utterance
from service.settings import LearningRule
from service.speakers.adaptation import AcceptedCall, CallLearner, adapt_with
from service.speakers.enrollment import Enroller, EnrollmentRequest
from service.speakers.lifecycle import Retention, opt_out, undo_enrollment
from service.store import Speaker, Store, open_store

ALICE = EnrollmentRequest(tenant="t", speaker_id="alice")
CONTRACT = Contract(
    model_id="m",
    sample_rate=16000,
    window_samples=32000,
    hop_samples=16000,
    min_speech_samples=8000,
    dimension=4,
    calibration=Calibration(-5.0, {"cosine": 10.0}, ((0.1, 0.0), (0.01, 3.0)), "made"),
)
RETENTION = Retention(clock=lambda: 1000.0)
DEFAULT = LearningRule()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path / 'sayso.db'}") as opened:
        yield opened


def utterance(
    axis: int = 0, speech_s: float = 2.0, *, angle: float = 0.0, coherence: float | None = None
) -> Utterance:
    """An embedding along `axis`, turned by `angle` towards the next one."""
    quality = Quality(speech_s, speech_s + 1, snr_db=20.0, clipping=0.0, peak_dbfs=-3.0)
    axes = np.eye(4, dtype=np.float32)
    embedding = math.cos(angle) * axes[axis] + math.sin(angle) * axes[(axis + 1) % 4]
    return Utterance(l2_normalize(embedding), quality, 1, coherence, model_id="m")


async def stored(store: Store) -> Speaker:
    found = await store.get("t", "alice")
    assert found is not None
    return found


async def undo(store: Store) -> Speaker:
    speaker = await stored(store)
    return await store.put(undo_enrollment(speaker, now=1.0), expected_etag=speaker.etag)


def accepted(llr: float = 5.0, **changes: object) -> Decision:
    decision = Decision(
        Outcome.ACCEPTED,
        "m",
        "",
        score=Score(0.9, llr),
        threshold=Threshold(2.0, ThresholdSource.SERVER, "made"),
    )
    return replace(decision, **changes)  # type: ignore[arg-type]


def call(number: int, speech_s: float = 5.0, *, angle: float = 0.3) -> Utterance:
    """One of six recordings that are as like the voice along the first axis, and not like each
    other."""
    embedding = np.zeros(4, np.float32)
    embedding[0] = math.cos(angle)
    embedding[1 + number % 3] = math.sin(angle) * (1 if number < 3 else -1)
    return replace(utterance(speech_s=speech_s), embedding=embedding)


@dataclass
class Voices:
    """What enrolls one voice, and learns from its calls."""

    store: Store
    enroller: Enroller
    learner: CallLearner

    async def enroll(self, utterance: Utterance) -> Speaker:
        enrollment = await self.enroller.add(ALICE, utterance)
        assert enrollment.speaker is not None
        return enrollment.speaker

    async def learn(
        self,
        speaker: Speaker,
        call: Utterance,
        digest: str,
        decision: Decision | None = None,
    ) -> Speaker | None:
        accepted_call = AcceptedCall(speaker, call, decision or accepted(), digest)
        return await self.learner.learn(accepted_call)


def make(store: Store, *, max_vectors: int = 50, rule: LearningRule = DEFAULT) -> Voices:
    enroller = Enroller(
        store,
        contract=CONTRACT,
        gate=QualityGate(min_speech_s=0.5, min_snr_db=0.0, max_clipping=0.1),
        min_speech_s=5.0,
        max_vectors=max_vectors,
        retention=RETENTION,
    )
    auditor = Auditor(None, origin=lambda: Origin("t", "key:k1"))
    learning = {"m": adapt_with(enroller, rule)}
    return Voices(store, enroller, CallLearner(store, enroller, auditor, RETENTION, learning))


async def test_a_recording_is_never_adapted_twice(store: Store) -> None:
    voices = make(store)
    speaker = await voices.enroll(utterance(speech_s=6))
    assert not await voices.learn(speaker, utterance(speech_s=5), "of the enrolment itself")
    assert await voices.learn(speaker, call(0), "first")
    assert not await voices.learn(speaker, call(1), "first")
    assert not await voices.learn(speaker, call(0, 5.2), "first, cut differently")
    await undo(store)
    assert not await voices.learn(speaker, call(0), "first")
    assert await voices.learn(speaker, call(1), "second")


async def test_calls_step_by_step_lead_no_voice_away(store: Store) -> None:
    """Each is like the voice that the last one left, and at last none like what was enrolled."""
    voices = make(store)
    speaker = await voices.enroll(utterance(speech_s=6))
    for number in range(1, 20):
        await voices.learn(speaker, utterance(speech_s=30, angle=0.25 * number), str(number))
    vectors = (await stored(store)).voiceprints["m"].vectors
    assert len(vectors) > 1
    assert min(10 * vectors[:, 0] - 5) >= 2.0


@pytest.mark.parametrize(("room", "kept"), [(1, [6]), (2, [6, 9]), (3, [6, 7, 9])])
async def test_no_call_displaces_what_was_enrolled(
    store: Store, room: int, kept: list[float]
) -> None:
    voices = make(store, max_vectors=room)
    speaker = await voices.enroll(utterance(speech_s=6))
    for number, speech_s in enumerate((5, 7, 9)):
        await voices.learn(speaker, call(number, speech_s), str(number))
    held = (await stored(store)).voiceprints["m"]
    assert held.speech_s.tolist() == kept
    assert held.adapted == room - 1


async def test_what_is_enrolled_later_goes_before_what_calls_added(store: Store) -> None:
    voices = make(store, max_vectors=3)
    speaker = await voices.enroll(utterance(speech_s=6))
    for number in range(2):
        assert await voices.learn(speaker, call(number, 20 + number), str(number))
    await voices.enroll(utterance(speech_s=3, angle=0.1))
    held = (await stored(store)).voiceprints["m"]
    assert (held.speech_s.tolist(), held.adapted) == ([6, 3, 21], 1)


async def test_a_confident_accept_adapts_the_voice(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    voices = make(store)
    speaker = await voices.enroll(utterance(speech_s=6))
    for number in range(5):
        adapted = await voices.learn(speaker, call(number), str(number))
        assert adapted is not None
    assert (await stored(store)).voiceprints["m"].speech_s.tolist() == [6, 5, 5, 5, 5, 5]
    assert "adapted" in caplog.text
    assert "alice" not in caplog.text
    assert (await undo(store)).voiceprints == speaker.voiceprints


@pytest.mark.parametrize(
    ("heard", "decision", "rule"),
    [
        (utterance(speech_s=5), accepted(4.9), DEFAULT),
        (utterance(speech_s=4.9), accepted(), DEFAULT),
        (utterance(speech_s=5), accepted(outcome=Outcome.REJECTED), DEFAULT),
        (utterance(speech_s=5), accepted(model_id="other"), DEFAULT),
        (utterance(speech_s=5), accepted(score=None), DEFAULT),
        (utterance(speech_s=5, coherence=0.4), accepted(), DEFAULT),
        (utterance(1, speech_s=5), accepted(), DEFAULT),
        (replace(utterance(), embedding=None), accepted(), LearningRule(min_speech_s=0.0)),
    ],
)
async def test_nothing_less_adapts_it(
    store: Store, heard: Utterance, decision: Decision, rule: LearningRule
) -> None:
    voices = make(store, rule=rule)
    speaker = await voices.enroll(utterance(speech_s=6))
    assert await voices.learn(speaker, heard, "digest", decision) is None
    assert await stored(store) == speaker


async def test_a_voice_that_went_meanwhile_is_not_adapted(store: Store) -> None:
    voices = make(store)
    speaker = await voices.enroll(utterance(speech_s=6))
    gone = await store.put(opt_out(speaker, now=1.0), expected_etag=speaker.etag)
    assert await voices.learn(speaker, utterance(speech_s=5), "digest") is None
    assert await stored(store) == gone
    await store.delete("t", "alice")
    assert await voices.learn(speaker, utterance(speech_s=5), "digest") is None
    assert await store.get("t", "alice") is None
