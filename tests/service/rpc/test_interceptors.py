"""What a program is told of an error, beside its code and what a person is told."""

import pytest
from google.rpc import error_details_pb2

from service.errors import (
    ErrorReason,
    InvalidArgument,
    NotFound,
    Overloaded,
    SaysoError,
    SpeakerLocked,
)
from service.rpc.statuses import build_details


def info(reason: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="sayso")


_RETRY = error_details_pb2.RetryInfo()
_RETRY.retry_delay.FromMilliseconds(1500)


@pytest.mark.parametrize(
    ("error", "details"),
    [
        (SpeakerLocked(1.5), [info("SPEAKER_LOCKED"), _RETRY]),
        (SpeakerLocked(None), [info("SPEAKER_LOCKED")]),
        (Overloaded("later", retry_after_s=1.5), [info("OVERLOADED"), _RETRY]),
        (NotFound("who?", reason=ErrorReason.SPEAKER_NOT_FOUND), [info("SPEAKER_NOT_FOUND")]),
        (SaysoError("a defect"), [info("INTERNAL")]),
    ],
)
def test_an_error_has_a_reason_and_a_time_to_retry(
    error: SaysoError, details: list[object]
) -> None:
    assert build_details(error) == details


def test_a_violation_names_its_field() -> None:
    reason, request = build_details(InvalidArgument("is empty", field="audio"))
    assert reason == info("INVALID_FIELD")
    assert isinstance(request, error_details_pb2.BadRequest)
    assert request.field_violations[0].field == "audio"
