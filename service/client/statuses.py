"""gRPC statuses back to the classes of `service.errors` that they stand for."""

from typing import NoReturn

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from service.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    SaysoError,
    TimedOut,
    Unauthenticated,
    Unavailable,
)

_RETRY_AFTER_S = 1.0
"""Where a server at its limit of calls does not say."""

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
    """Raises the `service.errors` class that the server's status stands for."""
    code, text = error.code(), error.details() or ""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status else ():
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            request = error_details_pb2.BadRequest()
            detail.Unpack(request)
            violation = request.field_violations[0]
            raise InvalidArgument(violation.description, field=violation.field) from error
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            raise Overloaded(text, retry_after_s=retry.retry_delay.ToTimedelta().total_seconds())
    if code is Overloaded.code:
        raise Overloaded(f"{code.name}: {text}", retry_after_s=_RETRY_AFTER_S) from error
    raise _ERRORS.get(code, SaysoError)(f"{code.name}: {text}") from error
