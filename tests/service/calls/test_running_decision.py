from dataclasses import replace
from typing import Literal, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from service.audio.quality import Quality
from service.audio.speech import VoiceActivity
from service.calls.claims import Claim
from service.calls.running_decision import RunningDecision
from service.calls.verification import Verifier
from service.contract import Calibration, Contract
from service.decisions.decision import Decision, Outcome, Reason
from service.decisions.policy import Policy, QualityGate, SequentialTest, ThresholdSource
from service.inference.embedder import Audio, Embedder, Stream, Utterance
from service.inference.session import Session
from service.store import Voiceprint

RATE = 16_000
POLICY = Policy(0.1, ThresholdSource.REQUEST, QualityGate(1.0, -10.0, 1.0))
CERTAIN = Calibration(50.0, {"cosine": 0.0}, ((0.1, 0.0), (0.01, 1.0)), "made: always the speaker")
UNSURE = replace(CERTAIN, bias=0.0)
LIKENESS = Calibration(-10.0, {"cosine": 20.0}, ((0.1, 0.0), (0.01, 1.0)), "made")

Samples = NDArray[np.float32]


async def decisions(
    session: Session,
    vad: VoiceActivity,
    samples: Samples,
    calibration: Calibration | None,
    policy: Policy,
    *,
    claim: Decision | Literal["anyone", "nobody"] = "anyone",
) -> list[Decision]:
    """Every decision of a call in 100 ms pieces, the last one at its end."""
    contract = replace(session.contract, calibration=calibration)
    vector = np.eye(contract.dimension, dtype=np.float32)[:1]
    anyone = Voiceprint(contract.model_id, vector, np.array([10], np.float32), 0.0)
    verifier = Verifier(contract)
    held: Claim | Decision | None = claim if isinstance(claim, Decision) else None
    if claim == "anyone":
        held = Claim.of_one(verifier, anyone)
    async with Embedder(session, vad, max_batch=4, queue_limit=64) as embedder:
        call = RunningDecision(embedder.open_stream(), verifier, held, policy)
        told = [await call.hear(piece) for piece in np.split(samples, range(0, len(samples), 1600))]
        return [made for made in told if made is not None] + [await call.finish()]


@pytest.fixture(scope="module")
def speech(clips: list[Samples]) -> Samples:
    return np.concatenate(clips[:2])


async def test_a_result_comes_with_every_window_and_before_the_first(
    session: Session, vad: VoiceActivity, speech: Samples
) -> None:
    told = await decisions(session, vad, speech, UNSURE, POLICY)
    heard_s = [made.quality.net_speech_s for made in told]
    assert heard_s == sorted(heard_s)
    assert heard_s[0] < session.contract.window_s
    assert max(np.diff(heard_s)) < session.contract.hop_s + 0.5


async def test_a_sequential_decision_stands_once_reached(
    session: Session, vad: VoiceActivity, speech: Samples
) -> None:
    policy = replace(POLICY, sequential=SequentialTest(0.01, 0.01, 10.0))
    told = await decisions(session, vad, speech, CERTAIN, policy)
    assert told[0].outcome is Outcome.ACCEPTED
    assert all((made.outcome, made.score) == (told[0].outcome, told[0].score) for made in told)


async def test_undecided_evidence_ends_with_the_fixed_decision(
    session: Session, vad: VoiceActivity, speech: Samples
) -> None:
    policy = replace(POLICY, sequential=SequentialTest(0.01, 0.01, 1000.0))
    *early, last = await decisions(session, vad, speech, UNSURE, policy)
    assert all(made.reasons == (Reason.UNDECIDED,) for made in early)
    assert last.outcome is Outcome.ACCEPTED
    assert last.threshold is not None
    assert "target false-match rate" in last.threshold.description


async def test_nothing_is_decided_of_a_voice_that_nobody_claims(
    session: Session, vad: VoiceActivity, speech: Samples
) -> None:
    told = await decisions(session, vad, speech, None, POLICY, claim="nobody")
    assert len(told) > 3
    assert all(made.reasons == (Reason.NO_CLAIM,) for made in told)
    heard_s = [made.quality.net_speech_s for made in told]
    assert heard_s == sorted(heard_s)
    assert heard_s[0] > 0


async def test_a_claim_that_needs_no_audio_stands_while_it_is_heard(
    session: Session, vad: VoiceActivity, speech: Samples
) -> None:
    refused = Decision(Outcome.NOT_ENROLLED, "m", "no such speaker")
    told = await decisions(session, vad, speech, None, POLICY, claim=refused)
    assert len(told) > 3
    assert {replace(made, quality=refused.quality) for made in told} == {refused}
    assert told[-1].quality.net_speech_s > 1


async def test_silence_never_decides(session: Session, vad: VoiceActivity) -> None:
    (only,) = await decisions(session, vad, np.zeros(RATE, np.float32), CERTAIN, POLICY)
    assert only.reasons == (Reason.NO_SPEECH,)


class ScriptedStream:
    """A stream that gives these utterances, one a window, instead of embedding anything."""

    latest, latest_s = None, 0.0

    def __init__(self, *utterances: Utterance) -> None:
        self._utterances = utterances
        self.windows = 0

    @property
    def quality(self) -> Quality:
        return self._utterances[self.windows - 1].quality

    @property
    def net_speech_s(self) -> float:
        return self.quality.net_speech_s

    async def push(self, audio: Audio) -> None:
        self.windows += 1

    async def so_far(self) -> Utterance:
        return self._utterances[self.windows - 1]

    async def finish(self, audio: Audio | None = None) -> Utterance:
        return self._utterances[-1]


def utterance(axis: int, speech_s: float) -> Utterance:
    quality = Quality(speech_s, speech_s, snr_db=20.0, clipping=0.0, peak_dbfs=-3.0)
    return Utterance(np.eye(4, dtype=np.float32)[axis], quality, windows=1)


@pytest.mark.parametrize(("last_axis", "accepted"), [(0, True), (1, False)])
async def test_the_servers_own_decision_is_on_the_whole_call(
    last_axis: int, accepted: bool
) -> None:
    """An early decision stands for the caller; whether a voice may learn does not follow it."""
    contract = Contract("m", RATE, 2 * RATE, RATE, RATE // 2, 4, calibration=LIKENESS)
    vector = np.eye(4, dtype=np.float32)[:1]
    voiceprint = Voiceprint("m", vector, np.array([10], np.float32), 0.0)
    policy = replace(POLICY, sequential=SequentialTest(0.01, 0.01, 100.0))
    stream = cast(Stream, ScriptedStream(utterance(0, 3.0), utterance(last_axis, 6.0)))
    verifier = Verifier(contract)
    running = RunningDecision(stream, verifier, Claim.of_one(verifier, voiceprint), policy)
    early = await running.hear(b"")
    assert early is not None
    assert early.outcome is Outcome.ACCEPTED
    last = await running.finish()
    assert (last.outcome, last.score) == (Outcome.ACCEPTED, early.score)
    assert last.meets_server_policy is accepted
    own = running.accepted_by_server
    assert (own is not None) == accepted
    if own is not None:
        assert own.quality.net_speech_s == 6.0
        assert own.threshold == verifier.choose_server_threshold()
