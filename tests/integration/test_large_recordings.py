"""Recordings over 4 MiB: the client streams them by itself, or says what to do instead."""

import io
import logging
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import soundfile
from sayso import BatchItem, Client, InvalidArgument
from sayso.calls import Call
from sayso.messages import MAX_MESSAGE_BYTES
from sayso.v1 import verification_pb2, verification_pb2_grpc

from tests.support.audio_configs import FILE
from tests.support.local_server import LocalServer
from tests.support.voices import clips

SECONDS = 70


def recording(speaker: str, kind: str, *, seconds: int, subtype: str) -> bytes:
    """A WAV file of a voice's first clip, again and again."""
    speech, rate = soundfile.read(clips(speaker, kind)[0])
    file = io.BytesIO()
    soundfile.write(file, np.resize(speech, seconds * rate), rate, subtype, format="WAV")
    return file.getvalue()


def large(speaker: str, kind: str) -> bytes:
    made = recording(speaker, kind, seconds=SECONDS, subtype="DOUBLE")
    assert len(made) > MAX_MESSAGE_BYTES
    return made


@pytest.fixture(scope="module")
def sayso(sqlite_server: LocalServer) -> Iterator[Client]:
    with sqlite_server.client() as client:
        assert client.enroll("slt", large("slt", "enroll")).stored
        client.enroll("rms", recording("rms", "enroll", seconds=SECONDS, subtype="PCM_16"))
        client.groups.create("staff")
        client.groups.add_members("staff", ["slt", "rms"])
        yield client


@pytest.mark.parametrize("speaker", ["slt", "rms"])
def test_a_large_recording_is_verified_as_a_small_one_of_the_same(
    sayso: Client, speaker: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "sayso"):
        told = sayso.verify(speaker, large("slt", "verify"))
    assert "too large for one message" in caplog.text
    small = recording("slt", "verify", seconds=SECONDS, subtype="PCM_16")
    expected = sayso.verify(speaker, small)
    assert told.outcome == expected.outcome == ("ACCEPTED" if speaker == "slt" else "REJECTED")
    assert told.llr == pytest.approx(expected.llr, abs=1e-3)


def test_a_large_recording_is_searched_for(sayso: Client) -> None:
    found = sayso.identify("staff", large("slt", "verify"), max_candidates=2)
    small = recording("slt", "verify", seconds=SECONDS, subtype="PCM_16")
    expected = sayso.identify("staff", small, max_candidates=2)
    assert found.decision.outcome == expected.decision.outcome
    for one, other in zip(found.candidates, expected.candidates, strict=True):
        assert one.speaker_id == other.speaker_id
        assert one.llr == pytest.approx(other.llr, abs=1e-3)
    assert found.candidates[0].speaker_id == "slt"


def test_a_recording_over_the_servers_limit_is_no_overload(sayso: Client) -> None:
    """18.5 MB, where `SAYSO_MAX_AUDIO_BYTES` is 16 MiB: to wait and try again would be no use."""
    longest = recording("slt", "verify", seconds=290, subtype="DOUBLE")
    assert len(longest) > 18_500_000
    for call in (sayso.verify, sayso.enroll):
        with pytest.raises(InvalidArgument, match="send less"):
            call("slt", longest)


def test_a_large_recording_has_no_embedding(sayso: Client) -> None:
    with pytest.raises(InvalidArgument, match="FLAC") as refused:
        sayso.embed(large("slt", "verify"))
    assert refused.value.field == "audio"


def test_large_items_of_a_batch_are_enrolled_in_their_turn(sayso: Client) -> None:
    small = clips("awb", "enroll")[0]
    items = [
        BatchItem("awb", large("awb", "enroll")),
        BatchItem("awb", small, replace=True),
        BatchItem("awb", large("awb", "enroll")),
        BatchItem("nobody", bytes(MAX_MESSAGE_BYTES)),
        BatchItem("awb", small),
    ]
    results = list(sayso.batch_enroll(items))
    assert [result.index for result in results] == [0, 1, 2, 3, 4]
    errors = [result.error for result in results]
    assert [error and type(error) for error in errors] == [None, None, None, InvalidArgument, None]
    speech_s = [result.enrollment.net_speech_s for result in results if result.enrollment]
    assert speech_s[0] > speech_s[1]
    assert speech_s[2] > speech_s[0]


def test_a_message_that_is_too_large_is_no_overload(
    sqlite_server: LocalServer, sayso: Client
) -> None:
    request = verification_pb2.VerifyRequest(
        speaker_id="slt", audio_config=FILE, audio=large("slt", "verify")
    )
    with grpc.insecure_channel(sqlite_server.address) as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="larger than max"):
            stub.Verify(request)
    call = Call(verification_pb2_grpc.VerificationServiceStub, "Verify", request, lambda made: made)
    with pytest.raises(InvalidArgument, match="larger than max"):
        sayso._transport.send(call)
