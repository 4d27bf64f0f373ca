from dataclasses import replace

import numpy as np
import pytest

from evaluation.scoring import normalization
from evaluation.scoring.normalization import Norm
from service.audio.quality import Quality
from service.calls.claims import Claim
from service.calls.verification import ProbeEmbedding, Verifier
from service.contract import Calibration, Cohort, Contract, ScoreKind
from service.decisions.decision import Decision, Outcome
from service.decisions.policy import Costs, Policy, QualityGate, ThresholdSource
from service.decisions.scoring import average_voice, l2_normalize
from service.errors import FailedPrecondition, InvalidArgument
from service.inference.embedder import Utterance
from service.store import Speaker, SpeakerState, Voiceprint

CONTRACT = Contract(
    model_id="m",
    sample_rate=16000,
    window_samples=32000,
    hop_samples=16000,
    min_speech_samples=8000,
    dimension=4,
    calibration=Calibration(-5.0, {"cosine": 10.0}, ((0.1, 0.0), (0.01, 3.0)), "made"),
)
VERIFIER = Verifier(CONTRACT)
POLICY = Policy(0.01, ThresholdSource.REQUEST, QualityGate(1.0, 0.0, 0.1))
ENROLLED = Voiceprint("m", np.eye(4, dtype=np.float32)[:2], np.array([3, 1], np.float32), 0.0)
CLAIM = Claim.of_one(VERIFIER, ENROLLED)
ALICE = Speaker("t", "alice", SpeakerState.ENROLLED, 0.0, 0.0, voiceprints={"m": ENROLLED})


def heard(*values: float, speech_s: float = 4.0) -> Utterance:
    quality = Quality(speech_s, speech_s + 1, snr_db=20.0, clipping=0.0, peak_dbfs=-3.0)
    return Utterance(l2_normalize(np.array(values, np.float32)), quality, windows=1)


def test_the_score_is_against_the_mean_weighted_by_net_speech() -> None:
    made = CLAIM.verify(heard(3, 1, 0, 0), POLICY)
    assert made.outcome is Outcome.ACCEPTED
    assert made.score is not None
    assert made.score.cosine == pytest.approx(1.0)
    assert made.score.llr == pytest.approx(5.0)
    assert made.threshold is not None
    assert made.threshold.llr == pytest.approx(3.0)
    assert made.model_id == "m"


def test_another_voice_is_rejected() -> None:
    assert CLAIM.verify(heard(0, 0, 1, 0), POLICY).outcome is Outcome.REJECTED


def test_too_little_speech_is_inconclusive() -> None:
    made = CLAIM.verify(heard(3, 1, 0, 0, speech_s=0.4), POLICY)
    assert made.outcome is Outcome.INCONCLUSIVE
    assert made.speech_needed_s == pytest.approx(0.6)


ANYTHING = Policy(Costs(0.999, 1.0, 1e-9), ThresholdSource.REQUEST, QualityGate(0.0, -100.0, 1.0))
NOTHING = Policy(Costs(0.001, 1e-9, 1.0), ThresholdSource.REQUEST, QualityGate(1.0, 0.0, 0.1))


def test_the_servers_own_policy_judges_whatever_a_request_asks() -> None:
    owner, stranger, nobody = heard(3, 1, 0, 0), heard(0, 0, 1, 0), heard(0, 0, 1, 0, speech_s=0.6)
    for policy in (ANYTHING, NOTHING, POLICY):
        assert CLAIM.verify(owner, policy).meets_server_policy is True
        assert CLAIM.verify(stranger, policy).meets_server_policy is False
    assert CLAIM.verify(stranger, ANYTHING).outcome is Outcome.ACCEPTED
    assert CLAIM.verify(nobody, POLICY).meets_server_policy is None


def test_the_servers_own_decision_is_by_its_own_threshold() -> None:
    decision = CLAIM.accept(CLAIM.verify(heard(3, 1, 0, 0), NOTHING))
    assert decision.outcome is Outcome.ACCEPTED
    assert decision.threshold == VERIFIER.choose_server_threshold()


def test_audio_worse_than_the_server_demands_never_meets_its_policy() -> None:
    strict = Verifier(
        CONTRACT, policy=Policy(0.01, ThresholdSource.SERVER, QualityGate(2.0, 0.0, 0.1))
    )
    short = heard(3, 1, 0, 0, speech_s=1.0)
    made = Claim.of_one(strict, ENROLLED).verify(short, ANYTHING)
    assert made.outcome is Outcome.ACCEPTED
    assert made.meets_server_policy is None


def test_the_servers_threshold_is_there_beyond_the_measured_rates() -> None:
    verifier = Verifier(CONTRACT, policy=Policy(0.001, ThresholdSource.SERVER, POLICY.gate))
    assert verifier.choose_server_threshold().llr > VERIFIER.choose_server_threshold().llr == 3.0


@pytest.mark.parametrize(
    ("speaker", "outcome", "hint"),
    [
        (None, Outcome.NOT_ENROLLED, "no such speaker"),
        (replace(ALICE, state=SpeakerState.PENDING), Outcome.NOT_ENROLLED, "not complete"),
        (replace(ALICE, state=SpeakerState.UNCONFIRMED), Outcome.NOT_ENROLLED, "confirmation"),
        (replace(ALICE, state=SpeakerState.OPTED_OUT), Outcome.OPTED_OUT, "opted out"),
        (replace(ALICE, voiceprints={}), Outcome.NOT_ENROLLED, "another model"),
    ],
)
def test_some_claims_need_no_audio(speaker: Speaker | None, outcome: Outcome, hint: str) -> None:
    made = VERIFIER.resolve_claim(speaker)
    assert isinstance(made, Decision)
    assert made.outcome is outcome
    assert hint in made.explanation


def test_an_enrolled_claim_gives_the_voiceprint() -> None:
    assert VERIFIER.resolve_claim(ALICE) is ENROLLED


def test_without_a_calibration_nothing_is_decided() -> None:
    bare = Verifier(replace(CONTRACT, calibration=None))
    with pytest.raises(FailedPrecondition, match="sayso-export calibrate"):
        Claim.of_one(bare, ENROLLED).verify(heard(1, 0, 0, 0), POLICY)


def test_embeddings_compare_with_a_ratio_only_where_net_speech_is_known() -> None:
    one = ProbeEmbedding(np.array([1, 0, 0, 0], np.float32), 3.0, None)
    assert VERIFIER.compare(one, one).llr == pytest.approx(5.0)
    assert VERIFIER.compare(one, replace(one, speech_s=None)).llr is None
    assert Verifier(replace(CONTRACT, calibration=None)).compare(one, one).llr is None


COHORT = l2_normalize(np.random.default_rng(1).normal(0.3, 1, (30, 4)).astype(np.float32))
NORMALISED = replace(
    CONTRACT,
    calibration=Calibration(-5.0, {"cosine": 2.0}, ((0.1, 0.0),), "made", ScoreKind.AS_NORM),
    cohort=Cohort(COHORT.astype("<f4").tobytes(), len(COHORT), 10, "made"),
)


def test_scores_are_normalised_where_the_calibration_was_fitted_so() -> None:
    """Verification, a change of voice and a comparison of embeddings all by the same ratio, and
    the cosine is told as it is."""
    verifier, call = Verifier(NORMALISED), heard(3, 1, 1, 0)
    assert call.embedding is not None
    enrolled = average_voice(ENROLLED.vectors, ENROLLED.speech_s)
    cosine = float(enrolled @ call.embedding)
    sides = ((enrolled[None], np.array([0])), (call.embedding[None], np.array([0])))
    (score,) = normalization.normalize(Norm.AS, np.array([cosine]), *sides, COHORT, top_n=10)
    made = Claim.of_one(verifier, ENROLLED).verify(call, replace(POLICY, criterion=0.1)).score
    assert made is not None
    assert made.llr == pytest.approx(2 * score - 5, abs=1e-4)
    assert made.cosine == pytest.approx(cosine)
    assert abs(made.llr - (2 * cosine - 5)) > 0.5
    now = ProbeEmbedding(call.embedding, 4.0, 20.0)
    assert verifier.score(ENROLLED, now) == made
    assert verifier.compare(ProbeEmbedding(enrolled, 4.0, None), now).llr == made.llr
    assert verifier.compare(ProbeEmbedding(enrolled, None, None), now).llr is None


@pytest.mark.parametrize(
    ("values", "model_id", "field"),
    [
        ((1, 0, 0, 0), "other", "left[0].model_id"),
        ((1, 0, 0), "m", "left[0].values"),
        ((2, 0, 0, 0), "m", "left[0].values"),
        ((float("nan"), 0, 0, 0), "m", "left[0].values"),
        ((0, 0, 0, 0), "m", "left[0].values"),
    ],
)
def test_foreign_embeddings_are_refused(
    values: tuple[float, ...], model_id: str, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        VERIFIER.parse_probe(values, model_id=model_id, speech_s=1.0, snr_db=None, field="left[0]")
    assert caught.value.field == field
