"""Bytes that are no message: refused by every rpc as what they are, with no traceback in a log."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from sayso.v1 import speaker_pb2, verification_pb2, watchlist_pb2
from sayso_server import SaysoServer

from service.settings import SHIPPED_MODEL

METHODS = [
    method
    for module in (verification_pb2, speaker_pb2, watchlist_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
KINDS = ("unary", "stream")

pytestmark = pytest.mark.skipif(not SHIPPED_MODEL.exists(), reason="no model in models/")


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
        config=verification_pb2.EnrollConfig(speaker_id="alice")
    )
    with grpc.insecure_channel(server.address) as channel:
        call: Any = channel.stream_stream("/sayso.v1.VerificationService/BatchEnroll")
        answers = call(iter([item.SerializeToString(), b"\xff" * 50]), timeout=30)
        answer = verification_pb2.BatchEnrollResponse.FromString(next(answers))
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
    assert answer.error_message == "audio: the audio is empty; send at least one sample"
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


STREAMS = [method for method in METHODS if method.client_streaming]


@pytest.mark.parametrize("method", STREAMS, ids=lambda method: method.name)
def test_a_stream_that_says_nothing_is_ended(tmp_path: Path, method: Any) -> None:
    store, ended = f"sqlite:///{tmp_path / 'sayso.db'}", threading.Event()

    def silent() -> Iterator[bytes]:
        ended.wait()
        yield from ()

    with (
        SaysoServer(store=store, threads=1, max_pause_s=0.2) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        call: Any = channel.stream_stream(f"/{method.containing_service.full_name}/{method.name}")
        with pytest.raises(grpc.RpcError) as caught:
            list(call(silent(), timeout=30))
        ended.set()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.details() == "the stream sent nothing for 0.2 s; send audio, or end it"
