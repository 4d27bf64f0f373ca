"""One channel to a server, the stubs on it, and how a call is made."""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import Int32Value

from sayso.security import Tls, channel
from sayso.statuses import raise_error
from sayso.v1 import speaker_pb2_grpc, verification_pb2_grpc, watchlist_pb2_grpc

OPTIONS: Mapping[str, Any] = {
    "grpc.max_receive_message_length": 64 * 2**20,
    # A connection whose other end is gone is found out within 15 s, also while no call is made.
    # Servers that allow fewer pings close it, and gRPC then pings half as often.
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.http2.ping_timeout_ms": 5_000,  # by default a minute, whatever the keepalive timeout is
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.max_pings_without_data": 0,
    # After an outage a server is tried again every 5 s; the default grows to 2 minutes.
    "grpc.initial_reconnect_backoff_ms": 500,
    "grpc.min_reconnect_backoff_ms": 5_000,
    "grpc.max_reconnect_backoff_ms": 5_000,
    "grpc.dns_min_time_between_resolutions_ms": 5_000,
    # The default sends all calls to the first server that answers.
    "grpc.service_config": json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}),
}
"""Channel options of a `Client`, by gRPC's names for them."""

NOT_READY_KEY = "sayso-reason"
"""The trailing metadata of a health check in which a server says why it is not ready."""

_SERVING = 1


class Connection:
    """Closed on leaving; `timeout_s` is the deadline of every call but a live one.

    `address` is host:port or another gRPC target, such as `ipv4:10.0.0.1:50051,10.0.0.2:50051`;
    calls go to all servers that it names, in turn. `options` are channel options of gRPC, over
    `OPTIONS`; None leaves one to gRPC.

    `credential` is an API key or a JSON Web Token, which every call shows. Without `tls` the
    connection is plaintext; a credential then stays on this machine unless `insecure` allows
    otherwise, and a `SettingsError` says so.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:50051",
        *,
        timeout_s: float = 30.0,
        credential: str | None = None,
        tls: Tls | None = None,
        insecure: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        chosen = {**OPTIONS, **(options or {})}
        self._channel = channel(
            address,
            credential=credential,
            tls=tls,
            insecure=insecure,
            options=[(name, value) for name, value in chosen.items() if value is not None],
        )
        self._voices = verification_pb2_grpc.VerificationServiceStub(self._channel)
        self._speakers = speaker_pb2_grpc.SpeakerServiceStub(self._channel)
        self._groups = watchlist_pb2_grpc.WatchlistServiceStub(self._channel)
        # grpc.health.v1 without its package: the response is one enum, field 1, like Int32Value.
        self._health: Any = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=Empty.SerializeToString,
            response_deserializer=Int32Value.FromString,
        )
        self._timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def ready(self) -> bool:
        """Whether the server is there, its model loaded and its store reachable."""
        return not self.why_not_ready()

    def why_not_ready(self) -> str:
        """Empty if the server is ready; else what it is waiting for, or why it is not reached."""
        try:
            reply, call = self._health.with_call(Empty(), timeout=self._timeout_s)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        if reply.value == _SERVING:
            return ""
        causes = [value for key, value in call.trailing_metadata() if key == NOT_READY_KEY]
        return causes[0] if causes else "the server says NOT_SERVING"

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise_error(error)
