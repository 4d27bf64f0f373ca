"""What a program is told of an error, beside its code and what a person is told."""

import pytest
from google.rpc import error_details_pb2

from service.errors import InvalidArgument, NotFound, Overloaded, SaysoError, SpeakerLocked
from service.rpc.interceptors import build_details

_INFO = error_details_pb2.ErrorInfo(reason="SPEAKER_LOCKED", domain="sayso")
_RETRY = error_details_pb2.RetryInfo()
_RETRY.retry_delay.FromMilliseconds(1500)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SpeakerLocked(1.5), [_INFO, _RETRY]),
        (SpeakerLocked(None), [_INFO]),
        (Overloaded("later", retry_after_s=1.5), [_RETRY]),
        (NotFound("who?"), []),
    ],
)
def test_an_error_has_a_reason_and_a_time_to_retry(error: SaysoError, told: list[object]) -> None:
    assert build_details(error) == told


def test_a_violation_names_its_field() -> None:
    (request,) = build_details(InvalidArgument("is empty", field="audio"))
    assert isinstance(request, error_details_pb2.BadRequest)
    assert request.field_violations[0].field == "audio"
