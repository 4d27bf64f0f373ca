"""The listener: the port, TLS, the credentials that are checked, and the limits of connections."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import grpc

from service.access import Authenticator, current, open_authenticator
from service.access.tls import Certificates, server_credentials
from service.errors import SettingsError
from service.network import check_listener, is_loopback, parse_host_and_port
from service.observability import metrics
from service.rpc.interceptors import GuardInterceptor
from service.rpc.reading import MAX_MESSAGE_BYTES, Reading
from service.settings import Settings

log = logging.getLogger(__name__)

_SPARE_STREAMS = 100  # of one connection, beyond the calls that the server accepts

# Bytes that a client may send before the server reads them; gRPC allows megabytes by default.
_WINDOWS = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 128 * 1024))

# Close connections that are idle for long, and those whose other end is gone.
_CONNECTIONS = (
    # Clients ping a call on hold every 10 s; gRPC would cut them off after the third ping.
    ("grpc.http2.min_ping_interval_without_data_ms", 9_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),  # else a minute, whatever the keepalive timeout is
)


def open_configured_authenticator(settings: Settings) -> Authenticator | None:
    """Open what checks credentials, or return None if none are required; raises `SettingsError`."""
    return open_authenticator(
        keys=settings.keys,
        jwks=settings.jwks,
        token_rules=settings.tokens,
        now=lambda: datetime.now(UTC),
    )


def make_grpc_server(
    settings: Settings,
    guards: GuardInterceptor,
    *,
    outer: Sequence[grpc.aio.ServerInterceptor] = (),
    share_port: bool,
) -> grpc.aio.Server:
    """Make a server with `outer` interceptors around the `guards` of every call."""
    reading = Reading(
        max_pause_s=settings.max_pause_s,
        tenant=lambda: current().tenant,
        count_refusal=metrics.count_refusal,
    )
    return grpc.aio.server(
        interceptors=(*outer, guards, reading),
        options=(
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            # So that calls beyond the limit are refused, instead of queued by the client.
            ("grpc.max_concurrent_streams", settings.max_streams + _SPARE_STREAMS),
            ("grpc.so_reuseport", int(share_port)),
            *_CONNECTIONS,
            *_WINDOWS,
        ),
    )


class _GenericHandlersOnly:
    """A server to which services add only their generic handlers, which find methods by name."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Register none: grpc.aio would look at each registered handler on every call."""


def add_generically(server: grpc.aio.Server) -> grpc.aio.Server:
    """Return the object to which services are added."""
    return cast(grpc.aio.Server, _GenericHandlersOnly(server))


def bind_port(server: grpc.aio.Server, settings: Settings, *, open_to_all: bool) -> str:
    """Bind the port of `server` and return its address, host:port; raises `SettingsError`."""
    listen = settings.listen
    host, _ = parse_host_and_port(listen, variable="SAYSO_LISTEN", example="127.0.0.1:50051")
    certificates = Certificates.from_files(settings.tls)
    check_listener(listen, tls=certificates is not None, insecure=settings.insecure)
    if open_to_all and not is_loopback(listen):
        log.warning("whoever reaches %s may do everything; set SAYSO_KEYS or SAYSO_JWKS", listen)
    try:
        if certificates is None:
            number = server.add_insecure_port(listen)
        else:
            number = server.add_secure_port(listen, server_credentials(certificates))
    except RuntimeError as error:
        raise SettingsError(
            f"SAYSO_LISTEN: cannot listen on {listen}; is another server running there?"
        ) from error
    return f"{host}:{number}"
