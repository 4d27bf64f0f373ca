"""google.rpc.Status as an HTTP response, by the codes that google.rpc.Code maps to."""

import math
from typing import Any

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from starlette.responses import Response

_DETAILS_KEY = "grpc-status-details-bin"

HTTP_CODES = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
}


class RequestRefused(Exception):
    """A request that the gateway answers itself, with a gRPC code and an HTTP code, if that is
    another than the gRPC code's."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        http_code: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status_pb2.Status(code=code.value[0], message=message)
        self.http_code = HTTP_CODES[code] if http_code is None else http_code
        self.headers = headers or {}

    def make_response(self) -> Response:
        return make_response(self.status, self.http_code, self.headers)


class BadRequest(RequestRefused):
    """INVALID_ARGUMENT, of one field if it is named."""

    def __init__(self, message: str, *, field: str = "", http_code: int | None = None) -> None:
        text = f"{field}: {message}" if field else message
        super().__init__(grpc.StatusCode.INVALID_ARGUMENT, text, http_code=http_code)
        if field:
            violations = error_details_pb2.BadRequest()
            violations.field_violations.add(field=field, description=message)
            self.status.details.add().Pack(violations)


def respond_to_error(error: grpc.aio.AioRpcError, headers: dict[str, str]) -> Response:
    """The response for a call that failed, with `Retry-After` if the server says when to retry."""
    code, status = error.code(), read_status(error)
    if (retry_s := _read_retry_s(status)) is not None:
        headers = headers | {"retry-after": str(math.ceil(retry_s))}
    if code is grpc.StatusCode.UNAUTHENTICATED:
        headers = headers | {"www-authenticate": "Bearer"}
    return make_response(status, HTTP_CODES[code], headers)


def read_status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The status of a call that failed, with its details."""
    packed = dict(error.trailing_metadata() or ()).get(_DETAILS_KEY)
    status = status_pb2.Status.FromString(packed if isinstance(packed, bytes) else b"")
    status.code, status.message = error.code().value[0], error.details() or error.code().name
    return status


def make_response(status: status_pb2.Status, http_code: int, headers: dict[str, str]) -> Response:
    return Response(
        describe_status(status),
        http_code,
        {"cache-control": "no-store", **headers},
        media_type="application/json",
    )


def describe_status(status: status_pb2.Status) -> str:
    """The status as JSON; without details if one of them is of a type that is not known here."""
    try:
        return json_format.MessageToJson(status, indent=None)
    except (TypeError, ValueError):
        plain = status_pb2.Status(code=status.code, message=status.message)
        return json_format.MessageToJson(plain, indent=None)


def _read_retry_s(status: Any) -> float | None:
    for packed in status.details:
        retry = error_details_pb2.RetryInfo()
        if packed.Unpack(retry):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    return None
