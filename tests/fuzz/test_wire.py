"""Bytes that are no message: refused by every rpc as what they are, with no traceback in a log."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from sayso.v1 import (
    audio_pb2,
    call_pb2,
    event_pb2,
    group_pb2,
    server_pb2,
    speaker_pb2,
    verification_pb2,
)

from tests.support.audio_configs import FILE
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

METHODS = [
    method
    for module in (verification_pb2, speaker_pb2, group_pb2, call_pb2, event_pb2, server_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
KINDS = ("unary", "stream")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SaysoServer]:
    folder: Path = tmp_path_factory.mktemp("wire")
    with SaysoServer(store=f"sqlite:///{folder / 'sayso.db'}", threads=1) as running:
        yield running
        assert "Traceback" not in running.log
        assert "DecodeError" not in running.log


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("data", [b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f"], ids=["junk", "long"])
def test_what_is_no_message_is_an_invalid_argument(
    server: SaysoServer, method: Any, data: bytes
) -> None:
    kind = f"{KINDS[method.client_streaming]}_{KINDS[method.server_streaming]}"
    with grpc.insecure_channel(server.address) as channel:
        call = getattr(channel, kind)(f"/{method.containing_service.full_name}/{method.name}")
        with pytest.raises(grpc.RpcError) as caught:
            reply = call(iter([data]) if method.client_streaming else data, timeout=30)
            list(reply)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()


def test_the_items_before_what_is_no_message_are_answered(server: SaysoServer) -> None:
    item = verification_pb2.BatchEnrollRequest(
        enrollment=verification_pb2.EnrollRequest(
            config=verification_pb2.EnrollConfig(speaker_id="alice", audio_config=FILE)
        )
    )
    with grpc.insecure_channel(server.address) as channel:
        call: Any = channel.stream_stream("/sayso.v1.VerificationService/BatchEnroll")
        answers = call(iter([item.SerializeToString(), b"\xff" * 50]), timeout=30)
        answer = verification_pb2.BatchEnrollResponse.FromString(next(answers))
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
    assert answer.error.message == "audio: the audio is empty; send at least one sample"
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


STREAMS = [method for method in METHODS if method.client_streaming]
RAW = audio_pb2.AudioConfig(encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=8000)
TICK_S = 0.02


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SaysoServer]:
    """A server that waits for half a second, and knows one voice."""
    store = f"sqlite:///{tmp_path_factory.mktemp('impatient') / 'sayso.db'}"
    settings: dict[str, Any] = {"threads": 1, "max_pause_s": 0.5, "min_enroll_speech_s": 0.5}
    with SaysoServer(store=store, **settings) as running, running.client() as sayso:
        assert sayso.enroll("slt", clips("slt", "enroll")[0]).stored
        yield running


def messages(method: Any, *, each: int, ticks: int) -> Iterator[bytes]:
    """A request of `method`, with `each` bytes of audio every `TICK_S`."""
    kind: Any = message_factory.GetMessageClass(method.input_type)
    audio = b"\xff" * each
    if kind is verification_pb2.BatchEnrollRequest:
        config: Any = verification_pb2.EnrollConfig(speaker_id="slt", audio_config=RAW)
        request = kind(enrollment=verification_pb2.EnrollRequest(config=config, audio=audio))
    else:
        config = kind.DESCRIPTOR.fields_by_name["config"].message_type
        begun = message_factory.GetMessageClass(config)(speaker_id="slt", audio_config=RAW)
        yield kind(config=begun).SerializeToString()
        request = kind(audio=audio)
    for _ in range(ticks):
        time.sleep(TICK_S)
        yield request.SerializeToString()


def ended(running: SaysoServer, method: Any, requests: Iterator[bytes]) -> grpc.StatusCode:
    with grpc.insecure_channel(running.address) as channel:
        call: Any = channel.stream_stream(f"/{method.containing_service.full_name}/{method.name}")
        answers = call(requests, timeout=30)
        with contextlib.suppress(grpc.RpcError):
            list(answers)
        if answers.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            said = "the stream sent hardly any audio for 0.5 s; send some or end it"
            assert answers.details() == said
        code: grpc.StatusCode = answers.code()
        return code


@pytest.mark.parametrize("method", STREAMS, ids=lambda method: method.name)
@pytest.mark.parametrize("each", [0, 1], ids=["empty", "trickling"])
def test_a_stream_that_only_pretends_to_send_is_ended(
    impatient: SaysoServer, method: Any, each: int
) -> None:
    """Messages are no progress: 50 a second come."""
    began_s = time.monotonic()
    requests = messages(method, each=each, ticks=500)
    assert ended(impatient, method, requests) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began_s < 5.0


@pytest.mark.parametrize("method", STREAMS, ids=lambda method: method.name)
def test_a_stream_that_says_nothing_is_ended(impatient: SaysoServer, method: Any) -> None:
    over = threading.Event()

    def silent() -> Iterator[bytes]:
        over.wait()
        yield from ()

    assert ended(impatient, method, silent()) is grpc.StatusCode.DEADLINE_EXCEEDED
    over.set()


def test_a_message_that_does_not_come_is_not_waited_for(impatient: SaysoServer) -> None:
    """Of every rpc that takes one; nor is the end of a call in place of it taken for one."""
    wholes = [method for method in METHODS if not method.client_streaming]
    over = threading.Event()
    with grpc.insecure_channel(impatient.address) as channel:

        def said(method: Any, requests: Iterator[bytes]) -> Any:
            call: Any = channel.stream_unary(
                f"/{method.containing_service.full_name}/{method.name}"
            )
            return call.future(requests, timeout=30)

        silent = [said(method, (b"" for _ in iter(over.wait, True))) for method in wholes]
        empty = [said(method, iter(())) for method in wholes]
        assert {call.code() for call in silent} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert {call.code() for call in empty} == {grpc.StatusCode.INVALID_ARGUMENT}
        over.set()


@pytest.mark.parametrize("each", [160, 15], ids=["telephone", "sparest-opus"])
@pytest.mark.parametrize("method", STREAMS, ids=lambda method: method.name)
def test_a_caller_in_real_time_is_waited_for(
    impatient: SaysoServer, method: Any, each: int
) -> None:
    """Three times as long as the server's patience."""
    requests = messages(method, each=each, ticks=75)
    assert ended(impatient, method, requests) is grpc.StatusCode.OK


def test_a_caller_on_hold_is_waited_for(impatient: SaysoServer) -> None:
    """Silence is not sent, again and again, for most of the server's patience."""
    method = next(each for each in STREAMS if each.name == "StreamingVerify")

    config, *spoken = messages(method, each=160, ticks=12)

    def held() -> Iterator[bytes]:
        yield config
        for part in range(0, len(spoken), 3):
            time.sleep(0.3)
            yield from spoken[part : part + 3]

    assert ended(impatient, method, held()) is grpc.StatusCode.OK
