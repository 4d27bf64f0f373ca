"""A claim that one of several speaks: as seldom wrong as a claim of one."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.audio.quality import Quality
from service.calls.claims import Claim, ClaimedVoice, log_mean_exp, measure_lead, resolve_claim
from service.calls.models import LoadedModels
from service.calls.verification import ProbeEmbedding, Verifier
from service.contract import Calibration, Contract
from service.decisions.decision import ClaimedSpeaker, ClaimStatus, Decision, Outcome
from service.decisions.policy import (
    Costs,
    Policy,
    QualityGate,
    SequentialTest,
    ThresholdSource,
)
from service.decisions.scoring import l2_normalize
from service.decisions.thresholds import (
    ClaimSize,
    choose_claim_threshold,
    choose_threshold,
    choose_threshold_among,
)
from service.inference.embedder import Utterance
from service.store import Speaker, SpeakerState, Voiceprint

RATES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
SPREAD = 3.0  # of calibrated log-likelihood ratios, normally distributed
TRIALS = 200_000
GATE = QualityGate(1.0, 0.0, 0.1)

LLRS = st.lists(st.floats(-50, 50), min_size=1, max_size=8)


def impostor_llrs(count: int, voices: int, seed: int) -> np.ndarray:
    """Calibrated log-likelihood ratios of impostors against voices that are not alike."""
    chance = np.random.default_rng(seed)
    return chance.normal(-(SPREAD**2) / 2, SPREAD, (count, voices))


def measured(llrs: np.ndarray) -> Calibration:
    points = tuple((rate, float(np.quantile(llrs, 1 - rate))) for rate in RATES)
    return Calibration(0.0, {"cosine": 1.0}, points, "made")


CALIBRATION = measured(impostor_llrs(1_000_000, 1, 0))


def policy(criterion: float | Costs) -> Policy:
    return Policy(criterion, ThresholdSource.SERVER, GATE)


@given(LLRS)
def test_the_mean_is_between_the_best_and_the_best_divided(llrs: list[float]) -> None:
    """So nobody is matched more easily in company than alone."""
    mean = log_mean_exp(llrs)
    assert max(llrs) - math.log(len(llrs)) - 1e-9 <= mean <= max(llrs) + 1e-9
    assert log_mean_exp(llrs[:1]) == llrs[0]


def accept(llrs: np.ndarray, rate: float, calibration: Calibration) -> np.ndarray:
    """Which of the claims `(trials, voices)` the threshold of a target rate accepts."""
    voices = llrs.shape[1]
    means = np.log(np.exp(llrs).mean(axis=1))
    leads = llrs.max(axis=1) - means
    alone = choose_threshold(policy(rate), calibration).llr
    alike = choose_claim_threshold(ClaimSize(voices, 0.0), policy(rate), calibration).llr
    return means >= np.maximum(alone, alike - leads)


@pytest.mark.parametrize("lead", [0.0, 0.5, math.log(8)])
def test_the_likeliest_voice_reaches_its_share_of_the_rate(lead: float) -> None:
    threshold = choose_claim_threshold(ClaimSize(8, lead), policy(0.01), CALIBRATION)
    best = choose_threshold_among(8, policy(0.01), CALIBRATION)
    alone = choose_threshold(policy(0.01), CALIBRATION)
    assert threshold.llr == max(alone.llr, best.llr - lead)
    assert (threshold.llr > alone.llr) == ("0.00125 for each of 8" in threshold.description)


def test_a_request_is_never_looser_than_the_server_in_a_household_either() -> None:
    size = ClaimSize(4, 1.0)
    server = choose_claim_threshold(size, policy(0.01), CALIBRATION)
    lax = Policy(Costs(0.999, 1.0, 1e-9), ThresholdSource.REQUEST, GATE, at_least=policy(0.01))
    threshold = choose_claim_threshold(size, lax, CALIBRATION)
    assert threshold.llr == server.llr
    assert threshold.source is ThresholdSource.SERVER_MINIMUM


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("voices", [2, 4, 8])
@pytest.mark.parametrize("rate", [0.05, 0.01])
def test_impostors_are_accepted_no_more_often_than_by_one_voice(
    voices: int, rate: float, scale: float
) -> None:
    """Strangers and twins, by ratios that are calibrated and by some three times too sure."""
    calibration = measured(scale * impostor_llrs(1_000_000, 1, 0))
    llrs = scale * impostor_llrs(TRIALS, voices, voices)
    alone = choose_threshold(policy(rate), calibration).llr
    assert np.mean(llrs.max(axis=1) >= alone) > rate * voices / 2, "the best alone breaks it"
    for heard in (llrs, np.repeat(llrs[:, :1], voices, axis=1)):
        assert np.mean(accept(heard, rate, calibration)) <= rate + 5 * math.sqrt(rate / TRIALS)


def test_costs_ask_for_the_same_ratio_whatever_the_number() -> None:
    costs = policy(Costs(0.5, 1.0, 100.0))
    threshold = choose_claim_threshold(ClaimSize(8, 0.3), costs, CALIBRATION)
    assert threshold.llr == pytest.approx(math.log(100))


CONTRACT = Contract(
    model_id="m",
    sample_rate=16_000,
    window_samples=32_000,
    hop_samples=16_000,
    min_speech_samples=8_000,
    dimension=4,
    calibration=Calibration(-10.0, {"cosine": 20.0}, ((0.1, 0.0), (0.01, 3.0)), "made"),
)
VERIFIER = Verifier(CONTRACT)
POLICY = policy(0.01)


def heard(*values: float) -> Utterance:
    quality = Quality(4.0, 5.0, snr_db=20.0, clipping=0.0, peak_dbfs=-3.0)
    return Utterance(l2_normalize(np.array(values, np.float32)), quality, windows=1)


def voiceprint(axis: int) -> Voiceprint:
    return Voiceprint("m", np.eye(4, dtype=np.float32)[axis : axis + 1], np.ones(1, np.float32), 0)


def household(*names: str) -> Claim:
    voices = tuple(
        ClaimedVoice(name, voiceprint(axis), VERIFIER) for axis, name in enumerate(names)
    )
    return Claim(voices, tuple(ClaimedSpeaker(name, ClaimStatus.COMPARED) for name in names))


def test_the_one_who_speaks_is_named_with_every_score() -> None:
    decision = household("anna", "ben", "carla").verify(heard(0, 1, 0, 0), POLICY)
    assert decision.matched == decision.likeliest == "ben"
    assert decision.score is not None
    assert decision.score.llr == pytest.approx(10 - math.log(3), abs=1e-3)
    assert decision.score.cosine == pytest.approx(1.0)
    llrs = {speaker.speaker_id: speaker.score and speaker.score.llr for speaker in decision.claimed}
    assert llrs == {
        "anna": pytest.approx(-10),
        "ben": pytest.approx(10),
        "carla": pytest.approx(-10),
    }
    assert measure_lead(decision.claimed) == pytest.approx(20)


def test_a_stranger_is_nobody_of_them() -> None:
    decision = household("anna", "ben").verify(heard(0, 0, 0, 1), POLICY)
    assert decision.outcome is Outcome.REJECTED
    assert decision.meets_server_policy is False
    assert decision.matched == ""


def test_the_sequential_test_is_of_the_mean() -> None:
    """0.62 is 2.4 above; alone it decides at ln 9, in a household of two it goes on."""
    test = replace(POLICY, sequential=SequentialTest(0.1, 0.1, 60.0))
    near = heard(0.62, 0, 0, math.sqrt(1 - 0.62**2))
    assert household("anna").verify_so_far(near, test).outcome is Outcome.ACCEPTED
    assert household("anna", "ben").verify_so_far(near, test).outcome is Outcome.INCONCLUSIVE


def test_another_member_who_takes_the_telephone_is_a_change() -> None:
    claim = household("anna", "ben")
    accepted = claim.verify(heard(1, 0, 0, 0), POLICY)
    quality = accepted.quality
    anna, ben = (_probe(heard(*values)) for values in ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0)))
    assert claim.detect_change(accepted, anna, quality, POLICY) is None
    changed = claim.detect_change(accepted, ben, quality, POLICY)
    assert changed is not None
    assert changed.outcome is Outcome.REJECTED


def _probe(utterance: Utterance) -> ProbeEmbedding:
    assert utterance.embedding is not None
    return ProbeEmbedding(utterance.embedding, 4.0, 20.0)


class OneModel(LoadedModels):
    """Resolves claims by the verifier, without a model in memory."""

    def __init__(self) -> None:
        self.model: Any = SimpleNamespace(verifier=VERIFIER)

    def resolve_claim(self, speaker: Speaker | None) -> tuple[Any, Voiceprint | Decision]:
        return self.model, VERIFIER.resolve_claim(speaker)


def test_members_who_cannot_be_compared_are_told_apart_and_left_out() -> None:
    states = {"anna": SpeakerState.ENROLLED, "ben": SpeakerState.OPTED_OUT}
    speakers = {
        name: Speaker("t", name, state, 0.0, 0.0, voiceprints={"m": voiceprint(0)})
        for name, state in states.items()
    }
    names = ("ben", "nobody", "carla", "anna")
    _, claim = resolve_claim(OneModel(), names, speakers, locked=("carla",))
    assert isinstance(claim, Claim)
    assert [voice.speaker_id for voice in claim.voices] == ["anna"]
    decision = claim.verify(heard(1, 0, 0, 0), POLICY)
    assert [(speaker.speaker_id, speaker.status) for speaker in decision.claimed] == [
        ("ben", ClaimStatus.OPTED_OUT),
        ("nobody", ClaimStatus.NOT_ENROLLED),
        ("carla", ClaimStatus.LOCKED),
        ("anna", ClaimStatus.COMPARED),
    ]
    assert decision.score is not None
    assert decision.score.cosine == pytest.approx(1.0)
    assert decision.score.llr == pytest.approx(10.0), "one voice, not four"


def test_with_nobody_to_compare_no_audio_is_needed() -> None:
    _, refused = resolve_claim(OneModel(), ("anna", "ben"), {}, locked=("ben",))
    assert isinstance(refused, Decision)
    assert refused.outcome is Outcome.NOT_ENROLLED
    assert "NOT_ENROLLED, LOCKED" in refused.explanation
