"""Decisions while the caller talks, over real gRPC."""

import io
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from sayso import Client, Decision, InvalidArgument, NotFound, RawAudio, SequentialTest
from sayso.v1 import audio_pb2, decision_pb2, verification_pb2_grpc
from sayso.v1 import verification_pb2 as pb

from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

MULAW = RawAudio("MULAW", 8000)
FRAME_BYTES = 160  # 20 ms


def mulaw(*paths: Path) -> bytes:
    """Recordings one after another, as a telephone line carries them."""
    made = io.BytesIO()
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32")
        soundfile.write(made, samples[:: rate // 8000], 8000, format="RAW", subtype="ULAW")
    return made.getvalue()


def frames(audio: bytes, size: int = FRAME_BYTES) -> Iterator[bytes]:
    return (audio[at : at + size] for at in range(0, len(audio), size))


@pytest.fixture(scope="module")
def sqlite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SaysoServer]:
    """In a process of its own: client and server of thousands of messages share no interpreter."""
    folder = tmp_path_factory.mktemp("server")
    with SaysoServer(store=f"sqlite:///{folder / 'sayso.db'}") as running:
        yield running


@pytest.fixture(scope="module")
def enrolled(sqlite_server: SaysoServer) -> Iterator[Client]:
    with sqlite_server.client() as sayso:
        for speaker in ("slt", "rms"):
            for path in clips(speaker, "enroll"):
                sayso.enroll(speaker, path)
        yield sayso


@pytest.fixture(scope="module")
def call_audio() -> bytes:
    return mulaw(*clips("slt", "verify"), *clips("slt", "enroll"))


def test_results_come_while_the_caller_talks(enrolled: Client, call_audio: bytes) -> None:
    decisions = list(enrolled.verify_stream("slt", frames(call_audio), raw=MULAW))
    speech_s = [decision.net_speech_s for decision in decisions]
    assert len(decisions) > 5
    assert speech_s == sorted(speech_s)
    assert speech_s[0] < 2


@pytest.mark.parametrize("size", [1, 7, 160, 4000])
def test_any_chunking_ends_as_one_call_does(enrolled: Client, size: int) -> None:
    audio = mulaw(clips("slt", "verify")[0])[:32000]
    whole = enrolled.verify("slt", audio, raw=MULAW)
    *_, last = enrolled.verify_stream("slt", frames(audio, size), raw=MULAW, message_s=0)
    assert last.cosine == pytest.approx(whole.cosine, abs=1e-5)
    assert last.llr == pytest.approx(whole.llr, abs=1e-3)
    assert last.outcome == whole.outcome


def test_a_stream_can_stop_at_its_decision(enrolled: Client, call_audio: bytes) -> None:
    sent = itertools.count()
    chunks = (chunk for chunk in frames(call_audio) if next(sent) >= 0)
    decisions = list(
        enrolled.verify_stream(
            "slt",
            chunks,
            raw=MULAW,
            sequential=SequentialTest(0.3, 0.3),
            stop_at_decision=True,
        )
    )
    assert decisions[-1].outcome in {"ACCEPTED", "REJECTED"}
    assert all(decision.reasons == ("UNDECIDED",) for decision in decisions[:-1])
    assert decisions[-1].threshold_description.startswith("sequential test")


def test_an_undecided_test_ends_with_the_fixed_decision(
    enrolled: Client, call_audio: bytes
) -> None:
    decisions = list(
        enrolled.verify_stream(
            "slt", frames(call_audio), raw=MULAW, sequential=SequentialTest(1e-12, 1e-12, 4.0)
        )
    )
    early = [decision for decision in decisions if decision.net_speech_s < 4]
    assert early
    assert all(decision.outcome == "INCONCLUSIVE" for decision in early)
    assert all(decision.speech_needed_s > 0 for decision in early)
    assert decisions[-1].outcome in {"ACCEPTED", "REJECTED"}
    assert decisions[-1].threshold_description.startswith("target false-match rate")


def test_a_reached_decision_stands(enrolled: Client, call_audio: bytes) -> None:
    decisions: list[Decision] = list(
        enrolled.verify_stream(
            "slt", frames(call_audio), raw=MULAW, sequential=SequentialTest(0.3, 0.3)
        )
    )
    conclusive = [made for made in decisions if made.outcome in {"ACCEPTED", "REJECTED"}]
    assert len(set(conclusive)) == 1


def test_an_unknown_caller_is_told_at_once(enrolled: Client, call_audio: bytes) -> None:
    (only,) = enrolled.verify_stream("nobody", frames(call_audio), raw=MULAW)
    assert only.outcome == "NOT_ENROLLED"


def test_silence_is_inconclusive(enrolled: Client) -> None:
    (only,) = enrolled.verify_stream("slt", frames(b"\xff" * 16000), raw=MULAW)
    assert only.outcome == "INCONCLUSIVE"
    assert only.reasons == ("NO_SPEECH",)


@pytest.fixture
def staff(enrolled: Client) -> Iterator[str]:
    enrolled.groups.create("staff")
    enrolled.groups.add_members("staff", ["slt", "rms"])
    yield "staff"
    enrolled.groups.delete("staff")


def test_a_claim_watchlists_and_a_group_are_served_together(
    enrolled: Client, call_audio: bytes, staff: str
) -> None:
    asked: dict[str, Any] = {"watchlists": [staff], "identify_group": staff, "max_candidates": 2}
    alone = list(enrolled.verify_stream("slt", frames(call_audio), raw=MULAW))
    both = list(enrolled.verify_stream("slt", frames(call_audio), raw=MULAW, **asked))
    assert [(made.outcome, made.llr) for made in both] == [
        (made.outcome, made.llr) for made in alone
    ]
    whole = enrolled.identify(staff, call_audio, raw=MULAW, max_candidates=2)
    found = both[-1].identification
    assert found is not None
    assert found.speaker_id == whole.speaker_id == "slt"
    assert [match.speaker_id for match in found.candidates] == ["slt", "rms"]
    assert [match.llr for match in found.candidates] == pytest.approx(
        [match.llr for match in whole.candidates], abs=1e-3
    )
    assert found.candidates[0].llr == both[-1].llr
    assert [match.speaker_id for match in both[-1].watchlist_matches] == ["slt"]
    assert both[-1].reasons == ("WATCHLISTED",)
    by_wrong_claim = list(enrolled.verify_stream("rms", frames(call_audio), raw=MULAW, **asked))
    assert by_wrong_claim[-1].outcome == "REJECTED"
    other = by_wrong_claim[-1].identification
    assert other is not None
    assert other.candidates == found.candidates
    assert other.decision.llr == found.decision.llr
    assert other.decision.decision_id != found.decision.decision_id


def test_without_a_claim_nobody_is_accepted_and_groups_are_searched(
    enrolled: Client, call_audio: bytes, staff: str
) -> None:
    decisions = list(
        enrolled.verify_stream(
            "", frames(call_audio), raw=MULAW, watchlists=[staff], identify_group=staff
        )
    )
    assert len(decisions) > 5
    assert {decision.outcome for decision in decisions} == {"INCONCLUSIVE"}
    assert all(decision.reasons[0] == "NO_CLAIM" for decision in decisions)
    assert all(decision.llr is None for decision in decisions)
    assert decisions[-1].reasons == ("NO_CLAIM", "WATCHLISTED")
    assert decisions[-1].identification is not None
    assert decisions[-1].identification.speaker_id == "slt"
    (alone,) = enrolled.verify_stream("", [b"\xff" * 16000], raw=MULAW, watchlists=[staff])
    assert alone.reasons == ("NO_CLAIM", "NO_SPEECH")
    assert alone.watchlist_matches == ()
    assert alone.identification is None


def test_a_stream_without_a_claim_ends_at_its_identification(
    enrolled: Client, call_audio: bytes, staff: str
) -> None:
    *early, last = enrolled.verify_stream(
        "",
        frames(call_audio),
        raw=MULAW,
        identify_group=staff,
        sequential=SequentialTest(0.1, 0.1),
        stop_at_decision=True,
    )
    assert last.identification is not None
    assert last.identification.speaker_id == "slt"
    assert last.identification.decision.threshold_description.startswith("sequential test")
    whole = enrolled.identify(staff, call_audio, raw=MULAW)
    assert last.net_speech_s < whole.decision.net_speech_s / 2
    for decision in early:
        assert decision.identification is not None
        assert decision.identification.decision.reasons == ("UNDECIDED",)


def test_a_claim_of_nobody_enrolled_leaves_the_groups_to_search(
    enrolled: Client, call_audio: bytes, staff: str
) -> None:
    *_, last = enrolled.verify_stream("nobody", frames(call_audio), raw=MULAW, identify_group=staff)
    assert last.outcome == "NOT_ENROLLED"
    assert last.net_speech_s > 5
    assert last.identification is not None
    assert last.identification.speaker_id == "slt"


def test_the_audio_of_one_who_opted_out_is_not_heard(
    enrolled: Client, call_audio: bytes, staff: str
) -> None:
    enrolled.speakers.opt_out("private")
    (only,) = enrolled.verify_stream(
        "private", frames(call_audio), raw=MULAW, watchlists=[staff], identify_group=staff
    )
    assert only.outcome == "OPTED_OUT"
    assert only.identification is None
    whole = enrolled.verify("private", call_audio, raw=MULAW, watchlists=[staff])
    assert whole.outcome == "OPTED_OUT"
    assert whole.watchlist_matches == ()
    assert whole.net_speech_s == 0


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({}, InvalidArgument),
        ({"identify_group": "staff", "max_candidates": 101}, InvalidArgument),
        ({"identify_group": "line\nbreak"}, InvalidArgument),
        ({"watchlists": [str(n) for n in range(17)]}, InvalidArgument),
        ({"identify_group": "none such"}, NotFound),
        ({"watchlists": ["none such"]}, NotFound),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_audio(
    enrolled: Client, staff: str, asked: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        list(enrolled.verify_stream("", [], raw=MULAW, **asked))  # type: ignore[arg-type]


CONFIG = pb.StreamingVerifyConfig(
    speaker_id="slt",
    audio_config=audio_pb2.AudioConfig(
        encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=8000
    ),
)
FIRST = pb.StreamingVerifyRequest(config=CONFIG)


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [pb.StreamingVerifyRequest(audio=b"\xff" * 160)],
        [FIRST, FIRST],
        [FIRST, pb.StreamingVerifyRequest()],
        [FIRST, pb.StreamingVerifyRequest(audio=b"\xff" * 15361)],
        [
            pb.StreamingVerifyRequest(
                config=pb.StreamingVerifyConfig(
                    speaker_id="slt",
                    audio_config=CONFIG.audio_config,
                    policy=decision_pb2.DecisionPolicy(
                        sequential=decision_pb2.SequentialTest(false_match_rate=0.6)
                    ),
                )
            )
        ],
    ],
)
def test_a_malformed_stream_is_refused(
    sqlite_server: SaysoServer, enrolled: Client, requests: list[pb.StreamingVerifyRequest]
) -> None:
    with grpc.insecure_channel(sqlite_server.address) as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.StreamingVerify(iter(requests), timeout=30))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_cancelled_call_leaves_the_server_serving(
    sqlite_server: SaysoServer, enrolled: Client, call_audio: bytes
) -> None:
    with grpc.insecure_channel(sqlite_server.address) as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        audio = (pb.StreamingVerifyRequest(audio=chunk) for chunk in frames(call_audio))
        calls = [stub.StreamingVerify(itertools.chain([FIRST], audio)) for _ in range(5)]
        for call in calls:
            call.cancel()
    assert enrolled.verify("slt", clips("slt", "verify")[0]).llr is not None


def test_a_deadline_ends_a_silent_call(sqlite_server: SaysoServer, enrolled: Client) -> None:
    def silent() -> Iterator[pb.StreamingVerifyRequest]:
        yield FIRST
        time.sleep(5)

    with grpc.insecure_channel(sqlite_server.address) as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.StreamingVerify(silent(), timeout=0.5))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_change_of_voice_is_reported(enrolled: Client) -> None:
    slt, rms = mulaw(*clips("slt", "enroll")), mulaw(*clips("rms", "enroll"))
    decisions = list(
        enrolled.verify_stream(
            "slt",
            frames(slt + rms),
            raw=MULAW,
            sequential=SequentialTest(0.2, 0.2),
            continuous=True,
        )
    )
    changed = [np.float64(d.net_speech_s) for d in decisions if d.reasons == ("VOICE_CHANGED",)]
    assert changed
    assert min(changed) > 10
    assert decisions[-1].reasons == ("VOICE_CHANGED",)
