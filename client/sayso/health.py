"""Whether a server is ready, by gRPC's health protocol, without the package that declares it."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import Int32Value

NOT_READY_KEY = "sayso-reason"
"""The trailing metadata of a health check in which a server says why it is not ready."""

_SERVING = 1


def open_check(channel: Any) -> Any:
    """The method that takes `REQUEST`, of either kind of channel. Its response has one enum, field
    1, and so reads like an Int32Value; the request is empty, for the server as a whole."""
    return channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=Empty.SerializeToString,
        response_deserializer=Int32Value.FromString,
    )


REQUEST = Empty()


def explain(reply: Int32Value, trailing: Iterable[tuple[str, Any]]) -> str:
    """Empty if the server is ready; else what it is waiting for."""
    if reply.value == _SERVING:
        return ""
    causes = [str(value) for key, value in trailing if key == NOT_READY_KEY]
    return causes[0] if causes else "the server says NOT_SERVING"


def explain_error(error: Any) -> str:
    """Why the server is not reached; `error` is a grpc.RpcError with a status."""
    return f"{error.code().name}: {error.details()}"
