"""What a failed call raises has all that a program needs to act."""

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from sayso import (
    AsyncClient,
    Client,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    Overloaded,
    SaysoError,
    SpeakerLocked,
    Unavailable,
)

from tests.support.overheard_server import OverheardServer


@pytest.fixture(scope="module")
def server() -> Iterator[OverheardServer]:
    with OverheardServer() as running:
        yield running


def pack(code: grpc.StatusCode, *details: Message) -> bytes:
    """The details of a status, as servers send them."""
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], details=packed).SerializeToString()


def fail(
    server: OverheardServer, code: grpc.StatusCode, *details: Message, text: str = "no"
) -> SaysoError:
    """What a call raises that the server refuses with that status."""
    server.refuse(code, text, pack(code, *details) if details else b"")
    with Client(server.address) as client, pytest.raises(SaysoError) as caught:
        client.speakers.get("alice")
    return caught.value


def make_info(reason: str, domain: str = "sayso", **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def make_retry(seconds: float) -> error_details_pb2.RetryInfo:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(int(seconds * 1e3))
    return retry


def test_each_code_has_its_class(server: OverheardServer) -> None:
    error = fail(server, grpc.StatusCode.NOT_FOUND, text="no speaker alice")
    assert type(error) is NotFound
    assert (str(error), error.code) == ("no speaker alice", grpc.StatusCode.NOT_FOUND)
    assert isinstance(error.__cause__, grpc.RpcError)


def test_a_code_without_a_class_is_named(server: OverheardServer) -> None:
    error = fail(server, grpc.StatusCode.DATA_LOSS, text="gone")
    assert type(error) is SaysoError
    assert (str(error), error.code) == ("DATA_LOSS: gone", grpc.StatusCode.DATA_LOSS)


def test_a_violation_names_its_field(server: OverheardServer) -> None:
    request = error_details_pb2.BadRequest()
    request.field_violations.add(field="audio.channel", description="is required")
    request.field_violations.add(field="etag", description="is too long")
    text = "audio.channel: is required"
    error = fail(server, grpc.StatusCode.INVALID_ARGUMENT, request, text=text)
    assert isinstance(error, InvalidArgument)
    assert (str(error), error.field) == (text, "audio.channel")
    assert error.violations[1] == FieldViolation("etag", "is too long")


def test_a_reason_has_its_metadata(server: OverheardServer) -> None:
    info = make_info("CONSENT_REQUIRED", speaker="alice")
    error = fail(server, grpc.StatusCode.FAILED_PRECONDITION, info)
    assert type(error) is FailedPrecondition
    assert (error.reason, error.metadata) == ("CONSENT_REQUIRED", {"speaker": "alice"})


def test_a_reason_of_another_service_is_not_ours(server: OverheardServer) -> None:
    info = make_info("SPEAKER_LOCKED", domain="example.com")
    error = fail(server, grpc.StatusCode.FAILED_PRECONDITION, info)
    assert (type(error), error.reason) == (FailedPrecondition, "")


@pytest.mark.parametrize("retry_after_s", [None, 1.5])
def test_a_locked_speaker_has_a_class(server: OverheardServer, retry_after_s: float | None) -> None:
    retry = [] if retry_after_s is None else [make_retry(retry_after_s)]
    info = make_info("SPEAKER_LOCKED")
    error = fail(server, grpc.StatusCode.FAILED_PRECONDITION, info, *retry)
    assert (type(error), error.retry_after_s) == (SpeakerLocked, retry_after_s)


@pytest.mark.parametrize(("details", "retry_after_s"), [([make_retry(0.25)], 0.25), ([], 1.0)])
def test_an_overload_says_when_to_retry(
    server: OverheardServer, details: list[Message], retry_after_s: float
) -> None:
    error = fail(server, grpc.StatusCode.RESOURCE_EXHAUSTED, *details)
    assert (type(error), error.retry_after_s) == (Overloaded, retry_after_s)


def test_a_message_that_is_too_large_is_no_overload(server: OverheardServer) -> None:
    text = "SERVER: Received message larger than max (5 vs. 4)"
    error = fail(server, grpc.StatusCode.RESOURCE_EXHAUSTED, text=text)
    assert (type(error), error.retry_after_s) == (InvalidArgument, None)


def test_an_error_names_its_request(server: OverheardServer) -> None:
    server.refuse(grpc.StatusCode.NOT_FOUND, "no")
    ids = iter(["call-4711", "call-4712"])
    with Client(server.address, request_ids=lambda: next(ids)) as client:
        for request_id in ("call-4711", "call-4712"):
            with pytest.raises(NotFound) as caught:
                client.speakers.get("alice")
            assert caught.value.request_id == request_id == server.request_ids[-1]


def test_calls_have_names_of_their_own(server: OverheardServer) -> None:
    fail(server, grpc.StatusCode.NOT_FOUND)
    fail(server, grpc.StatusCode.NOT_FOUND)
    first, second = server.request_ids[-2:]
    assert first != second


async def test_an_awaited_call_raises_the_same(server: OverheardServer) -> None:
    info, retry = make_info("SPEAKER_LOCKED"), make_retry(2)
    code = grpc.StatusCode.FAILED_PRECONDITION
    server.refuse(code, "locked", pack(code, info, retry))
    async with AsyncClient(server.address, request_ids=lambda: "call-1") as client:
        with pytest.raises(SpeakerLocked, match="locked") as caught:
            await client.speakers.get("alice")
    error = caught.value
    assert (error.code, error.reason, error.retry_after_s) == (code, "SPEAKER_LOCKED", 2.0)
    assert (error.request_id, server.request_ids[-1]) == ("call-1", "call-1")


async def test_a_server_that_is_away() -> None:
    with Client("127.0.0.1:1", timeout_s=5) as client:
        with pytest.raises(Unavailable):
            client.speakers.get("alice")
        assert client.why_not_ready().startswith("UNAVAILABLE")
    async with AsyncClient("127.0.0.1:1", timeout_s=5) as awaited:
        with pytest.raises(Unavailable):
            await awaited.speakers.get("alice")
        assert (await awaited.why_not_ready()).startswith("UNAVAILABLE")
