import pytest
from sayso.v1 import audio_pb2, decision_pb2, speaker_pb2, verification_pb2

from service.audio import AudioFormat, Encoding
from service.decision import Costs, Decision, Demands, Outcome, Policy, Reason, Score, Threshold
from service.errors import InvalidArgument
from service.quality import Quality
from service.rpc import messages
from service.store import SpeakerState

DEFAULT = Policy(0.01, "model", Demands(1.0, 0.0, 0.1))


def asked(**fields: object) -> Policy:
    message = decision_pb2.DecisionPolicy(**fields)  # type: ignore[arg-type]
    return messages.policy(message, DEFAULT, floor_s=0.5)


def test_an_empty_policy_is_the_servers() -> None:
    assert asked() == DEFAULT


def test_a_requests_policy_wins() -> None:
    made = asked(target_false_match_rate=0.1, min_net_speech_s=3, min_snr_db=-5)
    assert made == Policy(0.1, "request", Demands(3.0, -5.0, 0.1))
    costs = decision_pb2.CostModel(target_prior=0.9, miss_cost=1, false_accept_cost=10)
    assert asked(costs=costs).criterion == Costs(0.9, 1, 10)


def test_less_speech_than_the_model_needs_cannot_be_asked_for() -> None:
    assert asked(min_net_speech_s=0).demands.min_speech_s == 0.5


def test_zero_means_as_the_header_says() -> None:
    assert messages.audio_format(audio_pb2.AudioConfig()) == AudioFormat()
    raw = audio_pb2.AudioConfig(encoding=2, sample_rate=8000, channels=2, channel=1)
    assert messages.audio_format(raw) == AudioFormat(Encoding.MULAW, 8000, 2, 1)


def test_every_domain_value_has_its_message() -> None:
    quality = Quality(1.0, 2.0, snr_db=None, clipping=0.0, peak_dbfs=-3.0)
    for outcome in Outcome:
        for reason in Reason:
            made = messages.decision_message(
                Decision(outcome, "m", "why", reasons=(reason,), quality=quality)
            )
            assert decision_pb2.Outcome.Name(made.outcome) == f"OUTCOME_{outcome.name}"
            assert decision_pb2.Reason.Name(made.reasons[0]) == f"REASON_{reason.name}"
            assert not made.HasField("threshold")
            assert not made.quality.HasField("snr_db")
    assert {state.name for state in SpeakerState} <= {
        name.removeprefix("SPEAKER_STATE_")
        for name in speaker_pb2.SpeakerState.DESCRIPTOR.values_by_name
    }


def test_a_compared_decision_carries_its_scores() -> None:
    made = messages.decision_message(
        Decision(
            Outcome.ACCEPTED, "m", "why", score=Score(0.5, 3.0), threshold=Threshold(2.0, "costs")
        )
    )
    assert (made.cosine, made.llr, made.threshold.llr) == (0.5, 3.0, 2.0)
    assert made.threshold.source == "costs"


@pytest.mark.parametrize(
    "metadata",
    [{str(number): "" for number in range(33)}, {"": "x"}, {"k" * 65: "x"}, {"k": "x" * 257}],
)
def test_metadata_is_bounded(metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        messages.metadata(metadata)


def test_a_consent_reference_is_bounded() -> None:
    consent = speaker_pb2.Consent(reference="x" * 257)
    config = verification_pb2.EnrollConfig(speaker_id="alice", consent=consent)
    with pytest.raises(InvalidArgument) as caught:
        messages.enrolment_request(config, tenant="t")
    assert caught.value.field == "consent.reference"
