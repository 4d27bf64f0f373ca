"""gRPC statuses back to the classes of `service.errors` that they stand for."""

from typing import NoReturn, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from service.errors import (
    ERROR_DOMAIN,
    Aborted,
    AlreadyExists,
    FailedPrecondition,
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

_RETRY_AFTER_S = 1.0
"""Where something between here and the server refuses a call and does not say."""

_TOO_LARGE = "message larger than max"
"""What gRPC says of a message; it has the same code as an overload, which passes."""

_ERRORS = {
    kind.code: kind
    for kind in (
        Unauthenticated,
        PermissionDenied,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Aborted,
        TimedOut,
        Unavailable,
    )
}


_Detail = TypeVar("_Detail", bound=Message)


def raise_error(error: grpc.RpcError) -> NoReturn:
    """Raises the `service.errors` class that the server's status stands for."""
    code, text = error.code(), error.details() or ""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    if (request := _detail(status, error_details_pb2.BadRequest)) is not None:
        violation = request.field_violations[0]
        raise InvalidArgument(violation.description, field=violation.field) from error
    retry = _detail(status, error_details_pb2.RetryInfo)
    retry_after_s = retry and retry.retry_delay.ToTimedelta().total_seconds()
    info = _detail(status, error_details_pb2.ErrorInfo)
    if info is not None and (info.domain, info.reason) == (ERROR_DOMAIN, SpeakerLocked.reason):
        raise SpeakerLocked(retry_after_s) from error
    if retry_after_s is not None:
        raise Overloaded(text, retry_after_s=retry_after_s) from error
    if code is Overloaded.code and _TOO_LARGE in text:
        raise InvalidArgument(f"{text}; send less at once", field="request") from error
    if code is Overloaded.code:
        raise Overloaded(f"{code.name}: {text}", retry_after_s=_RETRY_AFTER_S) from error
    raise _ERRORS.get(code, SaysoError)(f"{code.name}: {text}") from error


def _detail(status: status_pb2.Status | None, kind: type[_Detail]) -> _Detail | None:
    """The detail of that kind, if the status has one."""
    for packed in status.details if status else ():
        detail = kind()
        if packed.Unpack(detail):
            return detail
    return None
