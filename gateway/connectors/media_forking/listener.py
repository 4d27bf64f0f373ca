"""The port of the platforms that speak gRPC: their services, and grpc.health.v1."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sayso import SettingsError

from gateway.calls import Calls
from gateway.connectors.media_forking import five9_pb2, webex_pb2
from gateway.connectors.media_forking.rpcs import MAX_AUDIO_BYTES, Rpcs, Verify

WEBEX = "com.cisco.wcc.ccai.media.v1.ConversationAudio"
FIVE9 = "five9.voicestream.Voice"

_METHODS: dict[str, tuple[str, str, Any, Any]] = {
    WEBEX: (
        "webex",
        "StreamConversationAudio",
        webex_pb2.ConversationAudioForkingRequest,
        webex_pb2.ConversationAudioForkingResponse,
    ),
    FIVE9: (
        "five9",
        "StreamingVoice",
        five9_pb2.StreamingVoiceRequest,
        five9_pb2.StreamingVoiceResponse,
    ),
}
_STREAMS_OF_A_CONNECTION = 200
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_AUDIO_BYTES + 4096),
    ("grpc.max_metadata_size", 16 * 1024),  # a token of Webex has about 2 KiB
    ("grpc.max_concurrent_streams", _STREAMS_OF_A_CONNECTION),
    ("grpc.keepalive_time_ms", 30_000),  # finds connections whose other end is gone
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 600_000),
)


class Health(health_pb2_grpc.HealthServicer):
    """Serving, until the gateway was told to stop."""

    def __init__(self, calls: Calls, services: Mapping[str, Verify]) -> None:
        self._calls = calls
        self._names = {"", *services}

    async def Check(self, request: Any, context: Any) -> Any:
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service here")
        kinds = health_pb2.HealthCheckResponse
        status = kinds.NOT_SERVING if self._calls.draining else kinds.SERVING
        return health_pb2.HealthCheckResponse(status=status)


@contextlib.asynccontextmanager
async def serve(
    address: str,
    tls: grpc.ServerCredentials | None,
    calls: Calls,
    services: Mapping[str, Verify],
    *,
    max_streams: int,
    start_s: float,
    max_pause_s: float,
) -> AsyncIterator[int]:
    """Serve the platforms by the names of their services; yields the port. Raises
    `SettingsError` if the address cannot be listened on, or the certificate is unfit."""
    rpcs = Rpcs(most=max_streams, start_s=start_s, max_pause_s=max_pause_s)
    handshake = ("grpc.server_handshake_timeout_ms", round(1000 * start_s))
    server = grpc.aio.server(
        options=(*_OPTIONS, handshake), maximum_concurrent_rpcs=2 * max_streams
    )
    server.add_generic_rpc_handlers(
        tuple(_make_handler(rpcs, name, verify) for name, verify in services.items())
    )
    health_pb2_grpc.add_HealthServicer_to_server(Health(calls, services), server)
    try:
        port = (
            server.add_insecure_port(address)
            if tls is None
            else server.add_secure_port(address, tls)
        )
    except RuntimeError as error:
        raise SettingsError(f"cannot listen on {address}: {error}") from error
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)
        await rpcs.close()


def _make_handler(rpcs: Rpcs, service: str, verify: Verify) -> grpc.GenericRpcHandler:
    platform, method, request, response = _METHODS[service]
    handler = grpc.stream_stream_rpc_method_handler(
        partial(rpcs.run, platform, verify),
        request_deserializer=request.FromString,
        response_serializer=response.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(service, {method: handler})
