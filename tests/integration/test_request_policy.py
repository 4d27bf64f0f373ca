"""A request's policy decides what is told; what follows from a call is the server's to decide."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from sayso import Client
from sayso.v1 import decision_pb2, speaker_pb2, speaker_pb2_grpc, verification_pb2_grpc
from sayso.v1 import verification_pb2 as pb

from service.settings import SHIPPED_MODEL
from tests.support.audio_configs import FILE
from tests.support.local_server import LocalServer
from tests.support.rotated_model import rotate_embeddings
from tests.support.voices import clips

ANYTHING = decision_pb2.DecisionPolicy(
    costs=decision_pb2.CostModel(target_prior=0.999, miss_cost=1.0, false_accept_cost=1e-20),
    min_net_speech_s=0.0,
    min_snr_db=-100.0,
)
NOTHING = decision_pb2.DecisionPolicy(
    costs=decision_pb2.CostModel(target_prior=0.001, miss_cost=1e-20, false_accept_cost=1.0),
    min_net_speech_s=60.0,
)
SETTINGS = {
    "move_margin_llr": 0.0,
    "move_min_speech_s": 1.0,
    "min_enroll_speech_s": 4.0,
    "adapt": True,
    "adapt_margin_llr": 0.0,
    "adapt_min_speech_s": 1.0,
    "lock_after_failures": 0,
    "duplicate_alarm_rate": 0.2,
}
NAMES = ("slt", "rms")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Speakers who enrolled with the model that ships."""
    address = f"sqlite:///{tmp_path_factory.mktemp('store') / 'sayso.db'}"
    with LocalServer(store=address, **SETTINGS) as server, server.client() as sayso:
        for speaker in NAMES:
            for clip in clips(speaker, "enroll"):
                assert sayso.enroll(speaker, clip).stored
        sayso.groups.create("fraud")
        sayso.groups.add_members("fraud", ["rms"])
    return address


class Server:
    """A running server, and calls to it with a policy."""

    def __init__(self, running: LocalServer, sayso: Client) -> None:
        self.sayso = sayso
        channel = grpc.insecure_channel(running.address)
        self._voices = verification_pb2_grpc.VerificationServiceStub(channel)
        self._speakers = speaker_pb2_grpc.SpeakerServiceStub(channel)

    def verify(
        self, speaker: str, voice: str, policy: decision_pb2.DecisionPolicy, clip: int = 1
    ) -> pb.VerifyResponse:
        audio = clips(voice, f"verify-{clip}")[0].read_bytes()
        request = pb.VerifyRequest(
            speaker_id=speaker, audio_config=FILE, audio=audio, policy=policy, watchlists=["fraud"]
        )
        response: pb.VerifyResponse = self._voices.Verify(request)
        return response

    def stream(
        self, speaker: str, voice: str, policy: decision_pb2.DecisionPolicy
    ) -> pb.StreamingVerifyResponse:
        audio = clips(voice, "verify-1")[0].read_bytes()
        config = pb.StreamingVerifyConfig(
            speaker_id=speaker,
            policy=policy,
            audio_config=FILE,
            watchlists=["fraud"],
        )
        requests = [pb.StreamingVerifyRequest(config=config)]
        requests += [
            pb.StreamingVerifyRequest(audio=audio[at : at + 8000])
            for at in range(0, len(audio), 8000)
        ]
        *_, last = self._voices.StreamingVerify(iter(requests))
        return last

    def voiceprint(self, speaker: str) -> speaker_pb2.VoiceprintSummary:
        found = self._speakers.GetSpeaker(speaker_pb2.GetSpeakerRequest(speaker_id=speaker))
        (only,) = found.speaker.voiceprints
        return only


@pytest.fixture(scope="module")
def one_model(store: str) -> Iterator[Server]:
    with LocalServer(store=store, **SETTINGS) as running, running.client() as sayso:
        yield Server(running, sayso)


def test_whom_only_the_request_accepts_is_no_use_and_adapts_nothing(one_model: Server) -> None:
    before = one_model.voiceprint("slt")
    for clip in (1, 2):
        told = one_model.verify("slt", "rms", ANYTHING, clip).decision
        assert told.outcome == decision_pb2.OUTCOME_ACCEPTED
    assert one_model.stream("slt", "rms", ANYTHING).decision.outcome == told.outcome
    assert one_model.voiceprint("slt") == before
    assert not before.HasField("last_use_time")


@pytest.mark.parametrize("policy", [ANYTHING, NOTHING])
def test_no_request_hides_a_watchlisted_voice(
    one_model: Server, policy: decision_pb2.DecisionPolicy
) -> None:
    for response in (one_model.verify("slt", "rms", policy), one_model.stream("", "rms", policy)):
        assert [match.speaker_id for match in response.watchlist_matches] == ["rms"]
    for response in (one_model.verify("slt", "slt", policy), one_model.stream("", "slt", policy)):
        assert not response.watchlist_matches


def test_a_match_on_a_watchlist_is_a_use_of_the_voice(store: str) -> None:
    with LocalServer(store=store, **SETTINGS) as running, running.client() as sayso:
        server = Server(running, sayso)
        assert sayso.enroll("listed", clips("awb", "enroll")[0]).stored
        assert sayso.enroll("listed", clips("awb", "enroll")[1]).stored
        sayso.groups.add_members("fraud", ["listed"])
        assert not server.voiceprint("listed").HasField("last_use_time")
        found = server.verify("slt", "awb", NOTHING).watchlist_matches
        assert "listed" in [match.speaker_id for match in found]
        assert server.voiceprint("listed").HasField("last_use_time")
        sayso.speakers.delete("listed")


def test_the_owner_is_heard_whatever_is_asked(one_model: Server) -> None:
    for clip in clips("slt", "enroll"):
        assert one_model.sayso.enroll("owner", clip).stored
    strict = decision_pb2.DecisionPolicy(costs=NOTHING.costs)
    told = one_model.verify("owner", "slt", strict).decision
    assert told.outcome == decision_pb2.OUTCOME_REJECTED
    after = one_model.voiceprint("owner")
    assert after.HasField("last_use_time")
    assert after.vectors == len(clips("slt", "enroll"))
    for times in range(2):
        told = one_model.verify("owner", "slt", decision_pb2.DecisionPolicy()).decision
        assert told.outcome == decision_pb2.OUTCOME_ACCEPTED
        assert one_model.voiceprint("owner").vectors == after.vectors + 1, times


def test_whom_only_the_request_accepts_does_not_move_the_voice(
    store: str, one_model: Server, tmp_path: Path
) -> None:
    """The attacker's speech would be the voice of the new model, and the owner locked out."""
    new = rotate_embeddings(SHIPPED_MODEL, tmp_path / "new.onnx", model_id="new")
    models = {"model": new, "previous_model": SHIPPED_MODEL}
    with LocalServer(store=store, **SETTINGS, **models) as running, running.client() as sayso:
        server = Server(running, sayso)
        before = sayso.speakers.get("rms")
        for clip in (1, 2):
            told = server.verify("rms", "slt", ANYTHING, clip).decision
            assert told.outcome == decision_pb2.OUTCOME_ACCEPTED
        server.stream("rms", "slt", ANYTHING)
        assert sayso.speakers.get("rms") == before
        assert sayso.speakers.migration().begun == 0
        assert sayso.verify("rms", clips("rms", "verify-1")[0]).accepted
        assert "new" in sayso.speakers.get("rms").model_ids
        assert not sayso.verify("rms", clips("slt", "verify-1")[0]).accepted
        assert sayso.verify(
            "rms", clips("rms", "verify-2")[0], target_false_match_rate=0.1
        ).accepted
