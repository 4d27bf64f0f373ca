"""gRPC statuses to the classes of `sayso.errors`."""

from typing import Any, NoReturn

import grpc

from sayso import details
from sayso.errors import (
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

_DOMAIN = "sayso"
_DETAILS_KEY = "grpc-status-details-bin"

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


def raise_error(error: grpc.RpcError) -> NoReturn:
    """Raises the `sayso.errors` class that the server's status stands for."""
    code, text = error.code(), error.details() or ""
    status = _status(error)
    if (request := details.unpack(status, details.BadRequest)) is not None:
        violation = request.field_violations[0]
        raise InvalidArgument(violation.description, field=violation.field) from error
    retry = details.unpack(status, details.RetryInfo)
    retry_after_s = retry and retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    info = details.unpack(status, details.ErrorInfo)
    if info is not None and (info.domain, info.reason) == (_DOMAIN, SpeakerLocked.reason):
        raise SpeakerLocked(text, retry_after_s=retry_after_s) from error
    if retry_after_s is not None:
        raise Overloaded(text, retry_after_s=retry_after_s) from error
    if code is Overloaded.code and _TOO_LARGE in text:
        raise InvalidArgument(f"{text}; send less at once", field="request") from error
    if code is Overloaded.code:
        raise Overloaded(f"{code.name}: {text}", retry_after_s=_RETRY_AFTER_S) from error
    raise _ERRORS.get(code, SaysoError)(f"{code.name}: {text}") from error


def _status(error: Any) -> Any:
    """The google.rpc.Status of a failed call; empty if something else than a server ended it."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            return details.Status.FromString(value)
    return details.Status()
