"""Bad input gets the right status and a message that says what to do; the server serves on."""

import io
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sayso import MAX_CHUNK_BYTES
from sayso.v1 import (
    audio_pb2,
    decision_pb2,
    speaker_pb2_grpc,
    verification_pb2_grpc,
)
from sayso.v1 import speaker_pb2 as speakers
from sayso.v1 import verification_pb2 as pb

from tests.support.audio_configs import FILE
from tests.support.local_server import LocalServer
from tests.support.voices import clips

INVALID = grpc.StatusCode.INVALID_ARGUMENT
LINEAR16 = audio_pb2.AUDIO_ENCODING_LINEAR16
RAW = audio_pb2.AudioConfig(encoding=LINEAR16, sample_rate_hertz=16000)


@pytest.fixture(scope="module")
def channel(sqlite_server: LocalServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(sqlite_server.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def voices(channel: grpc.Channel) -> verification_pb2_grpc.VerificationServiceStub:
    return verification_pb2_grpc.VerificationServiceStub(channel)


@pytest.fixture(autouse=True)
def still_serving(voices: verification_pb2_grpc.VerificationServiceStub) -> Iterator[None]:
    yield
    reply = voices.Embed(
        pb.EmbedRequest(audio_config=FILE, audio=clips("slt", "verify")[0].read_bytes()), timeout=30
    )
    assert reply.HasField("embedding")


def refused(call: Any, request: object) -> tuple[grpc.StatusCode, str, str]:
    """Status, message and the violated field of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        reply = call(request, timeout=30)
        if hasattr(reply, "__next__"):
            list(reply)
    error: Any = caught.value
    status = rpc_status.from_call(error)
    field = ""
    for detail in status.details if status else ():
        bad_request = error_details_pb2.BadRequest()
        if detail.Unpack(bad_request):
            field = bad_request.field_violations[0].field
    return error.code(), error.details(), field


def wav(samples: np.ndarray, rate: int = 16000, *, subtype: str = "PCM_16") -> bytes:
    made = io.BytesIO()
    soundfile.write(made, samples, rate, format="WAV", subtype=subtype)
    return made.getvalue()


FLAC = clips("slt", "enroll")[0].read_bytes()

AUDIO: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "empty": (b"", {}, "audio"),
    "text": (b"This is not audio at all, but prose." * 100, {}, "for raw audio say its encoding"),
    "a header and no more": (FLAC[:64], {}, "audio"),
    "cut in the middle": (FLAC[: len(FLAC) // 2], {}, "cut short"),
    "NaN samples": (wav(np.full(16000, np.nan), subtype="FLOAT"), {}, "NaN"),
    "raw without a rate": (b"\0" * 3200, {"encoding": LINEAR16}, "sample_rate"),
    "raw at 4 kHz": (b"\0" * 3200, {"encoding": LINEAR16, "sample_rate_hertz": 4000}, "8000"),
    "two channels, none named": (wav(np.zeros((16000, 2))), {}, "which one holds the speaker"),
    "a file sent as raw samples": (
        wav(np.zeros(16000)),
        {"encoding": LINEAR16, "sample_rate_hertz": 16000},
        "AUDIO_ENCODING_FILE",
    ),
    "WebM": (b"\x1a\x45\xdf\xa3" + bytes(3200), {}, "ffmpeg -i INPUT -ac 1 -ar 16000 OUTPUT.wav"),
    "a rate that contradicts the header": (
        wav(np.zeros(16000)),
        {"sample_rate_hertz": 8000},
        "16000",
    ),
    "a channel that is not there": (wav(np.zeros(16000)), {"channel": 1}, "channel"),
    "no encoding": (wav(np.zeros(16000)), {"encoding": 0}, "is required: AUDIO_ENCODING_FILE"),
    "an unknown encoding": (wav(np.zeros(16000)), {"encoding": 99}, "encoding"),
}


@pytest.mark.parametrize("name", AUDIO)
def test_bad_audio(voices: verification_pb2_grpc.VerificationServiceStub, name: str) -> None:
    audio, config, hint = AUDIO[name]
    config = {"encoding": audio_pb2.AUDIO_ENCODING_FILE} | config
    request = pb.EmbedRequest(audio_config=audio_pb2.AudioConfig(**config), audio=audio)
    code, message, field = refused(voices.Embed, request)
    assert code is INVALID
    assert hint in message
    assert field.startswith("audio")


def test_audio_over_the_limits(voices: verification_pb2_grpc.VerificationServiceStub) -> None:
    mulaw = audio_pb2.AudioConfig(encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=8000)
    too_long = pb.EmbedRequest(audio_config=mulaw, audio=b"\xff" * (8000 * 301))
    assert refused(voices.Embed, too_long)[0] is INVALID
    too_large = pb.EmbedRequest(audio_config=RAW, audio=b"\0" * (4 * 2**20))
    code, message, _ = refused(voices.Embed, too_large)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in message


CONFIG = pb.StreamingEnrollRequest(config=pb.EnrollConfig(speaker_id="bad", audio_config=RAW))
SOME = pb.StreamingEnrollRequest(audio=b"\0" * 3200)
STREAMS = {
    "nothing": ([], "config", "ended without one"),
    "audio first": ([SOME, CONFIG], "config", "first message"),
    "config twice": ([CONFIG, SOME, CONFIG], "config", "sent twice"),
    "an empty message": (
        [CONFIG, pb.StreamingEnrollRequest()],
        "audio",
        "neither config nor audio",
    ),
    "an oversize message": (
        [CONFIG, pb.StreamingEnrollRequest(audio=b"\0" * (MAX_CHUNK_BYTES + 2))],
        "audio",
        "smaller",
    ),
    "no audio": ([CONFIG], "audio", "empty"),
    "no speaker": (
        [pb.StreamingEnrollRequest(config=pb.EnrollConfig(audio_config=RAW)), SOME],
        "config.speaker_id",
        "1 to 128",
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_bad_streams(voices: verification_pb2_grpc.VerificationServiceStub, name: str) -> None:
    requests, expected_field, hint = STREAMS[name]
    code, message, field = refused(voices.StreamingEnroll, iter(requests))
    assert code is INVALID
    assert hint in message
    assert field == expected_field


@pytest.mark.parametrize("speaker_id", ["", "x" * 129, "bell\a", "nul\0"])
def test_bad_speaker_ids(
    voices: verification_pb2_grpc.VerificationServiceStub, speaker_id: str
) -> None:
    request = pb.VerifyRequest(speaker_id=speaker_id, audio_config=FILE, audio=FLAC)
    code, _, field = refused(voices.Verify, request)
    assert code is INVALID
    assert field == "speaker_id"


POLICIES = {
    "policy.target_false_match_rate": decision_pb2.DecisionPolicy(target_false_match_rate=1.5),
    "policy.costs.target_prior": decision_pb2.DecisionPolicy(costs=decision_pb2.CostModel()),
    "policy.min_net_speech_s": decision_pb2.DecisionPolicy(min_net_speech_s=-1),
    "policy.min_snr_db": decision_pb2.DecisionPolicy(min_snr_db=float("nan")),
}


@pytest.mark.parametrize("field", POLICIES)
def test_bad_policies(voices: verification_pb2_grpc.VerificationServiceStub, field: str) -> None:
    request = pb.VerifyRequest(
        speaker_id="slt", audio_config=FILE, audio=FLAC, policy=POLICIES[field]
    )
    code, _, violated = refused(voices.Verify, request)
    assert code is INVALID
    assert violated == field


def test_foreign_embeddings(voices: verification_pb2_grpc.VerificationServiceStub) -> None:
    ours = voices.Embed(pb.EmbedRequest(audio_config=FILE, audio=FLAC)).embedding
    foreign = pb.Embedding(model_id="another-model", values=ours.values)
    short = pb.Embedding(model_id=ours.model_id, values=ours.values[:-1])
    long = pb.Embedding(model_id=ours.model_id, values=[2 * value for value in ours.values])
    for bad, field in ((foreign, "model_id"), (short, "values"), (long, "values")):
        request = pb.CompareRequest(left=[ours], right=[bad])
        code, _, violated = refused(voices.Compare, request)
        assert code is INVALID
        assert violated == f"right[0].{field}"


def test_unknown_speakers_and_pages(channel: grpc.Channel) -> None:
    stub = speaker_pb2_grpc.SpeakerServiceStub(channel)
    nobody = speakers.GetSpeakerRequest(speaker_id="nobody")
    assert refused(stub.GetSpeaker, nobody)[0] is grpc.StatusCode.NOT_FOUND
    for request in (
        speakers.ListSpeakersRequest(page_size=1001),
        speakers.ListSpeakersRequest(page_token="not a token"),
    ):
        assert refused(stub.ListSpeakers, request)[0] is INVALID


def test_a_stale_etag_is_aborted(
    voices: verification_pb2_grpc.VerificationServiceStub, channel: grpc.Channel
) -> None:
    def enroll(recording: bytes, etag: str) -> pb.EnrollResponse:
        config = pb.EnrollConfig(speaker_id="etag", etag=etag, audio_config=FILE)
        chunks = range(0, len(recording), MAX_CHUNK_BYTES)
        audio = (
            pb.StreamingEnrollRequest(audio=recording[at : at + MAX_CHUNK_BYTES]) for at in chunks
        )
        *_, last = voices.StreamingEnroll(iter([pb.StreamingEnrollRequest(config=config), *audio]))
        return last.result

    other, third = (path.read_bytes() for path in clips("slt", "verify")[:2])
    first = enroll(FLAC, "").speaker.etag
    assert enroll(other, first).stored
    with pytest.raises(grpc.RpcError) as caught:
        enroll(third, first)
    assert caught.value.code() is grpc.StatusCode.ABORTED
    stub = speaker_pb2_grpc.SpeakerServiceStub(channel)
    stale = speakers.DeleteSpeakerRequest(speaker_id="etag", etag=first)
    assert refused(stub.DeleteSpeaker, stale)[0] is grpc.StatusCode.ABORTED


def test_a_call_that_asks_for_nothing_is_refused(
    voices: verification_pb2_grpc.VerificationServiceStub,
) -> None:
    unclaimed = pb.StreamingVerifyRequest(config=pb.StreamingVerifyConfig(audio_config=RAW))
    code, _, field = refused(voices.StreamingVerify, iter([unclaimed]))
    assert (code, field) == (INVALID, "config.speaker_id")
