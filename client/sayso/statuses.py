"""gRPC statuses to the classes of `sayso.errors`."""

from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from sayso.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    SaysoError,
    SpeakerLocked,
    TimedOut,
    Unauthenticated,
    Unavailable,
)

Detail = TypeVar("Detail", bound=Message)

REQUEST_ID_KEY = "x-request-id"
"""The header that names a call, in both directions."""

_DETAILS_KEY = "grpc-status-details-bin"
_DOMAIN = "sayso"

_RETRY_AFTER_S = 1.0
"""If something between here and the server refuses a call and does not say."""

_TOO_LARGE = "message larger than max"
"""What gRPC says of a message; it has the same code as an overload, which passes."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_BY_CODE: dict[grpc.StatusCode, type[SaysoError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Aborted,
        TimedOut,
        Overloaded,
        Unavailable,
    )
}
_BY_REASON: dict[str, type[SaysoError]] = {"SPEAKER_LOCKED": SpeakerLocked}


def make_error(error: Any, request_id: str) -> SaysoError:
    """Make the error that a call's status stands for; `request_id` is what the call was sent with.

    `error` is a grpc.RpcError with a status, of a blocking call or of an asynchronous one.
    """
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in text:
        return InvalidArgument(f"{text}; send less at once", request_id=request_id)
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing.get(_DETAILS_KEY, b""))
    return _make_error(code, text, status, trailing.get(REQUEST_ID_KEY, request_id))


def make_item_error(status: status_pb2.Status) -> SaysoError:
    """Make the error of one item of a batch; its request is that of the whole batch."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _make_error(code, status.message, status, "")


def _make_error(
    code: grpc.StatusCode, text: str, status: status_pb2.Status, request_id: str
) -> SaysoError:
    info = _detail(status, error_details_pb2.ErrorInfo) or error_details_pb2.ErrorInfo()
    reason = info.reason if info.domain == _DOMAIN else ""
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, SaysoError)
    return kind(
        text if kind is not SaysoError else f"{code.name}: {text}",
        code=code,
        reason=reason,
        retry_after_s=_retry_after_s(status, code),
        violations=_violations(status),
        metadata=info.metadata,
        request_id=request_id,
    )


def _retry_after_s(status: Any, code: grpc.StatusCode) -> float | None:
    retry = _detail(status, error_details_pb2.RetryInfo)
    if retry is not None:
        return float(retry.retry_delay.ToTimedelta().total_seconds())
    return _RETRY_AFTER_S if code is grpc.StatusCode.RESOURCE_EXHAUSTED else None


def _violations(status: Any) -> tuple[FieldViolation, ...]:
    request = _detail(status, error_details_pb2.BadRequest) or error_details_pb2.BadRequest()
    return tuple(FieldViolation(each.field, each.description) for each in request.field_violations)


def _detail(status: status_pb2.Status, kind: type[Detail]) -> Detail | None:
    """The detail of that kind, if the status has one."""
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            return detail
    return None
