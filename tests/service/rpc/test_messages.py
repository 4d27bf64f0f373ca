import math

import pytest
from google.protobuf.message import Message
from sayso.v1 import audio_pb2, decision_pb2, speaker_pb2, verification_pb2

from service.audio.codecs import Mulaw
from service.audio.decoding import AudioFormat
from service.audio.quality import Quality
from service.calls.identification import Identification
from service.calls.live import Answer
from service.calls.screening import Findings
from service.decisions.decision import Band, Decision, Outcome, Reason, Score
from service.decisions.match import Match
from service.decisions.policy import (
    Costs,
    Policy,
    PolicyDefaults,
    QualityGate,
    SequentialTest,
    ThresholdSource,
)
from service.decisions.thresholds import Threshold
from service.errors import InvalidArgument
from service.rpc import messages
from service.settings import Duplicates
from service.speakers.enrollment import Enrollment, Progress
from service.store import Consent, Speaker, SpeakerState
from tests.support.score_fields import contains_score

DEFAULT = Policy(0.01, ThresholdSource.MODEL, QualityGate(1.0, 0.0, 0.1))
SEQUENTIAL = SequentialTest(0.01, 0.02, max_speech_s=10.0)


def asked(*, looser: bool = True, **fields: object) -> Policy:
    message = decision_pb2.DecisionPolicy(**fields)  # type: ignore[arg-type]
    defaults = PolicyDefaults(DEFAULT, SEQUENTIAL, floor_s=0.5)
    return messages.parse_policy(message, looser=looser).fill_in(defaults)


def test_an_empty_policy_is_the_servers() -> None:
    assert asked() == DEFAULT


def test_a_requests_policy_wins() -> None:
    made = asked(target_false_match_rate=0.1, min_net_speech_s=3, min_snr_db=-5)
    assert made == Policy(0.1, ThresholdSource.REQUEST, QualityGate(3.0, -5.0, 0.1))
    costs = decision_pb2.CostModel(target_prior=0.9, miss_cost=1, false_accept_cost=10)
    assert asked(costs=costs).criterion == Costs(0.9, 1, 10)


def test_a_sequential_test_takes_what_it_leaves_out_from_the_server() -> None:
    assert asked(sequential=decision_pb2.SequentialTest()).sequential == SEQUENTIAL
    given = decision_pb2.SequentialTest(false_match_rate=0.1, max_net_speech_s=5)
    assert asked(sequential=given).sequential == SequentialTest(0.1, 0.02, max_speech_s=5.0)


def test_less_speech_than_the_model_needs_cannot_be_asked_for() -> None:
    assert asked(min_net_speech_s=0).gate.min_speech_s == 0.5


def test_zero_means_as_the_header_says() -> None:
    assert (
        messages.parse_audio_format(audio_pb2.AudioConfig(encoding=audio_pb2.AUDIO_ENCODING_FILE))
        == AudioFormat()
    )
    raw = audio_pb2.AudioConfig(encoding=2, sample_rate_hertz=8000, channels=2, channel=1)  # type: ignore[arg-type]
    assert messages.parse_audio_format(raw) == AudioFormat(Mulaw, 8000, 2, 1)


def test_every_domain_value_has_its_message() -> None:
    quality = Quality(1.0, 2.0, snr_db=None, clipping=0.0, peak_dbfs=-3.0)
    for outcome in Outcome:
        for reason in Reason:
            made = messages.build_decision(
                Decision(outcome, "m", "why", reasons=(reason,), quality=quality), scores=True
            )
            assert decision_pb2.Outcome.Name(made.outcome) == f"OUTCOME_{outcome.name}"
            assert decision_pb2.Reason.Name(made.reasons[0]) == f"REASON_{reason.name}"
            assert not made.HasField("threshold")
            assert not made.quality.HasField("snr_db")
    assert {state.name for state in SpeakerState} <= {
        name.removeprefix("SPEAKER_STATE_")
        for name in speaker_pb2.SpeakerState.DESCRIPTOR.values_by_name
    }


MATCH = Match("fraud", "mallory", Score(0.5, 3.0))


def test_a_watchlist_is_a_reason_and_changes_no_outcome() -> None:
    decision = Decision(Outcome.REJECTED, "m", "too far", reasons=(Reason.VOICE_CHANGED,))
    plain = messages.build_verify_response(Answer(decision), scores=True)
    made = messages.build_verify_response(Answer(decision, Findings((MATCH,))), scores=True)
    assert made.decision.outcome == plain.decision.outcome
    assert list(made.decision.reasons) == [
        decision_pb2.REASON_VOICE_CHANGED,
        decision_pb2.REASON_WATCHLISTED,
    ]
    assert made.decision.explanation == "too far; the voice matches a watchlist"
    (match,) = made.watchlist_matches
    assert (match.group_name, match.speaker_id, match.llr) == ("fraud", "mallory", 3.0)
    assert plain.decision.explanation == "too far"


def test_a_call_tells_of_the_claim_of_watchlists_and_of_the_group() -> None:
    claim = Decision(Outcome.ACCEPTED, "m", "near enough")
    found = Identification(Decision(Outcome.REJECTED, "m", "nobody"), (MATCH,))
    made = messages.build_call_response(
        Answer(claim, Findings((MATCH,), found), done=True), scores=True
    )
    assert made.decision.outcome == decision_pb2.OUTCOME_ACCEPTED
    assert list(made.decision.reasons) == [decision_pb2.REASON_WATCHLISTED]
    assert made.identification.outcome == decision_pb2.OUTCOME_REJECTED
    assert not made.identification.reasons
    assert [match.speaker_id for match in made.candidates] == ["mallory"]
    nothing = messages.build_call_response(Answer(claim), scores=True)
    assert not nothing.HasField("identification")
    assert not nothing.candidates
    assert not nothing.decision.reasons


def test_a_compared_decision_carries_its_scores() -> None:
    made = messages.build_decision(
        Decision(
            Outcome.ACCEPTED,
            "m",
            "why",
            score=Score(0.5, 3.0),
            threshold=Threshold(2.0, ThresholdSource.REQUEST, "costs"),
        ),
        scores=True,
    )
    assert (made.cosine, made.llr, made.threshold.llr) == (0.5, 3.0, 2.0)
    assert made.threshold.description == "costs"


def test_who_sees_no_scores_cannot_move_a_bound_below_the_servers() -> None:
    assert asked(looser=False, target_false_match_rate=0.1).at_least == DEFAULT
    own = DEFAULT.gate
    assert asked(looser=False, min_net_speech_s=0, min_snr_db=-40).gate == own
    stricter = asked(looser=False, min_net_speech_s=9, min_snr_db=30).gate
    assert (stricter.min_speech_s, stricter.min_snr_db) == (9, 30)
    assert asked(target_false_match_rate=0.1).at_least is None
    for false_match, false_non_match in ((0.4, 0.4), (1e-9, 1e-9), (None, None)):
        test = decision_pb2.SequentialTest(
            false_match_rate=false_match, false_non_match_rate=false_non_match
        )
        made = asked(looser=False, sequential=test).sequential
        assert made is not None
        assert made.false_match_rate == min(false_match or 1.0, SEQUENTIAL.false_match_rate)
        assert made.false_non_match_rate == SEQUENTIAL.false_non_match_rate


def test_every_band_has_its_value() -> None:
    for band in Band:
        made = messages.build_decision(
            Decision(Outcome.ACCEPTED, "m", "why", band=band), scores=False
        )
        assert decision_pb2.Band.Name(made.band) == f"BAND_{band.name}"


def every_answer(*, scores: bool) -> list[Message]:
    """One of each kind that says something of a comparison."""
    decision = Decision(
        Outcome.REJECTED,
        "m",
        "why",
        score=Score(0.5, 3.0),
        threshold=Threshold(2.0, ThresholdSource.REQUEST, "costs"),
    )
    found, quality = Identification(decision, (MATCH, MATCH)), Quality(1.0, 2.0, None, 0.0, -3.0)
    enrolment = Enrollment(Progress(0, 5), quality, "why")
    return [
        messages.build_verify_response(Answer(decision, Findings((MATCH,))), scores=scores),
        messages.build_call_response(Answer(decision, Findings((MATCH,), found)), scores=scores),
        messages.build_identify_response(found, scores=scores),
        messages.build_enroll_response(enrolment, [MATCH], scores=scores),
    ]


def test_an_answer_holds_scores_only_for_who_may_see_them() -> None:
    assert all(map(contains_score, every_answer(scores=True)))
    assert not any(map(contains_score, every_answer(scores=False)))


@pytest.mark.parametrize("outcome", list(Outcome))
def test_without_scores_only_who_was_accepted_is_a_candidate(outcome: Outcome) -> None:
    found = Identification(
        Decision(outcome, "m", "why"), (MATCH, Match("fraud", "eve", Score(0, 0)))
    )
    for made in (
        messages.build_identify_response(found, scores=False),
        messages.build_call_response(Answer(found.decision, Findings((), found)), scores=False),
    ):
        accepted = outcome is Outcome.ACCEPTED
        assert [at.speaker_id for at in made.candidates] == ["mallory"] * accepted


@pytest.mark.parametrize(
    "metadata",
    [{str(number): "" for number in range(33)}, {"": "x"}, {"k" * 65: "x"}, {"k": "x" * 257}],
)
def test_metadata_is_bounded(metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        messages.parse_metadata(metadata)


@pytest.mark.parametrize("reference", ["", "x" * 257])
def test_a_consent_reference_is_bounded(reference: str) -> None:
    consent = speaker_pb2.Consent(reference=reference)
    config = verification_pb2.EnrollConfig(speaker_id="alice", consent=consent)
    with pytest.raises(InvalidArgument) as caught:
        messages.parse_enrollment_request(config, tenant="t")
    assert caught.value.field == "consent.reference"


def test_a_consent_without_a_time_was_given_now() -> None:
    message = speaker_pb2.Consent(reference="form 27")
    assert messages.parse_consent(message, clock=lambda: 5.5) == Consent("form 27", 5.5)
    message.time.FromNanoseconds(1_500_000_000)
    assert messages.parse_consent(message, clock=lambda: 5.5) == Consent("form 27", 1.5)


def test_an_enrolment_says_what_to_do_with_duplicates_and_confirmation() -> None:
    config = verification_pb2.EnrollConfig(speaker_id="alice")
    made = messages.parse_enrollment_request(config, tenant="t")
    assert (made.duplicates, made.confirm) == (None, False)
    config.duplicates = verification_pb2.DUPLICATE_POLICY_REFUSE
    config.require_confirmation = True
    made = messages.parse_enrollment_request(config, tenant="t")
    assert (made.duplicates, made.confirm) == (Duplicates.REFUSE, True)
    config.duplicates = 9  # type: ignore[assignment]
    with pytest.raises(InvalidArgument) as caught:
        messages.parse_enrollment_request(config, tenant="t")
    assert caught.value.field == "config.duplicates"


def test_an_enrolment_carries_its_reasons_and_duplicates() -> None:
    quality = Quality(1.0, 2.0, snr_db=None, clipping=0.0, peak_dbfs=-3.0)
    made = messages.build_enroll_response(
        Enrollment(
            Progress(0, 5), quality, "why", reasons=tuple(Reason), duplicates=("bob", "eve")
        ),
        scores=True,
    )
    names = [decision_pb2.Reason.Name(reason) for reason in made.reasons]
    assert names == [f"REASON_{reason.name}" for reason in Reason]
    assert list(made.duplicate_speaker_ids) == ["bob", "eve"]
    assert not made.stored


def test_a_speaker_without_an_end_has_no_expiry() -> None:
    speaker = Speaker("t", "alice", SpeakerState.OPTED_OUT, 1.0, 2.0, opted_out_at=3.0)
    for expires_at in (math.inf, 9.0):
        made = messages.build_speaker(speaker, Progress(0, 5), expires_at=expires_at)
        assert made.HasField("expire_time") == (expires_at == 9.0)
        assert made.opt_out_time.seconds == 3
        assert not made.HasField("consent")
