"""Calls made of clips, heard as the service hears them."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import calls, encounters
from benchmarks.accuracy.calls import Caller, Plan
from evaluation.trials import manifest
from evaluation.trials.manifest import Speaker
from service.audio import decoding
from service.audio.speech import VoiceActivity
from service.decisions.policy import Policy, QualityGate, ThresholdSource
from service.decisions.scoring import Scorer
from service.inference.embedder import Embedder
from service.inference.session import Session

POLICY = Policy(0.01, ThresholdSource.SERVER, QualityGate(0.5, -100.0, 1.0))
PLAN = Plan(enrol_s=1.0, call_s=2.5, calls=2)


@pytest.fixture
def session(model_file: Path) -> Session:
    return Session.open(model_file, device="cpu", threads=1)


async def heard(session: Session, speech_manifest: Path, plan: Plan) -> tuple[Caller, ...]:
    clips = manifest.read(speech_manifest, "dev")
    async with Embedder(session, VoiceActivity.open(), max_batch=4, queue_limit=64) as embedder:
        return await calls.hear_callers(embedder, clips, POLICY, plan)


async def test_a_call_ends_as_one_recording_does(session: Session, speech_manifest: Path) -> None:
    callers = await heard(session, speech_manifest, PLAN)
    assert len(callers) == 8
    for steps in (steps for caller in callers for steps in caller.calls):
        speech_s = [step.speech_s for step in steps]
        assert speech_s == sorted(speech_s)
        assert len(steps) > 1
    whole = Plan(enrol_s=1.0, call_s=3.0, calls=1)
    rate = session.contract.sample_rate
    clips = [
        clip for clip in manifest.read(speech_manifest, "dev") if clip.speaker == callers[0].speaker
    ]
    parts = calls.join_recordings(clips, whole, rate, seed=0)
    (again,) = (
        one
        for one in await heard(session, speech_manifest, whole)
        if one.speaker == clips[0].speaker
    )
    async with Embedder(session, VoiceActivity.open(), max_batch=4, queue_limit=64) as embedder:
        enrolled, call = [await embedder.embed(samples) for samples in parts]
    assert enrolled.embedding is not None
    assert call.embedding is not None
    assert again.enrolled.embedding @ enrolled.embedding == pytest.approx(1)
    assert again.calls[0][-1].embedding @ call.embedding == pytest.approx(1)


async def test_a_clip_is_heard_once(speech_manifest: Path) -> None:
    clips = manifest.read(speech_manifest, "dev")[:4]
    rate = 16_000
    parts = calls.join_recordings(clips, PLAN, rate, seed=3)
    whole = [
        decoding.decode(c.file.read_bytes(), decoding.AudioFormat(), rate=rate, max_s=9)
        for c in clips
    ]
    assert len(parts) > 1
    assert sum(map(len, parts)) <= sum(map(len, whole))
    assert len({part.tobytes() for part in parts}) == len(parts)


async def test_who_said_too_little_is_no_caller(session: Session, speech_manifest: Path) -> None:
    assert await heard(session, speech_manifest, Plan(enrol_s=1.0, call_s=60.0)) == ()


async def test_calls_meet_the_enrolments_of_their_corpus(
    session: Session, speech_manifest: Path
) -> None:
    callers = await heard(session, speech_manifest, PLAN)
    other = [
        Caller(Speaker("other", one.speaker.name), one.enrolled, one.calls) for one in callers[:2]
    ]
    met = encounters.pair_calls([*callers, *other], Scorer(session.contract))
    count = sum(len(caller.calls) for caller in callers)
    apart = sum(len(caller.calls) for caller in other)
    assert len(met.target) == len(callers) * count + len(other) * apart
    assert met.target.sum() == count + apart
    assert (met.corpus == "other").sum() == len(other) * apart
    row = met.last[0]
    cosine = callers[0].enrolled.embedding @ callers[0].calls[0][-1].embedding
    assert met.measures.cosine[row] == pytest.approx(float(cosine), abs=1e-6)
    assert met.measures.test_speech_s[row] == callers[0].calls[0][-1].speech_s
    assert np.array_equal(np.flatnonzero(met.trial == 0), np.arange(met.first[0], row + 1))
