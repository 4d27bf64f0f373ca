"""How both clients connect: channel options, the target, and a name for each call."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sayso.errors import SettingsError
from sayso.security import Tls, is_loopback

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
"""Channel options of a client, by gRPC's names for them."""

ADDRESS = "127.0.0.1:50051"
TIMEOUT_S = 30.0

RESUME_S = 1.0
"""How long a feed that was cut off waits before it is asked for again."""

LEAVING_S = 5.0
"""How long a stream that is left early waits for the server to conclude it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a channel leads, with what it shows; raises `SettingsError` when it is made, if a
    credential would leave this machine in plaintext or a file cannot be read."""

    address: str
    credential: str | None = field(repr=False)
    tls: Tls | None
    insecure: bool
    options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.tls is not None:
            self.tls.credentials()
        elif self.credential and not self.insecure and not is_loopback(self.address):
            raise SettingsError(
                f"a credential would go to {self.address} in plaintext; use TLS (SAYSO_CA), or, "
                "where something else encrypts the connection, allow it (SAYSO_INSECURE=true)"
            )

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call shows."""
        return (("authorization", f"Bearer {self.credential}"),) if self.credential else ()

    def open(self, library: Any) -> Any:
        """A channel of `library`: `grpc`, or `grpc.aio`."""
        chosen = {**OPTIONS, **(self.options or {})}
        options = [(name, value) for name, value in chosen.items() if value is not None]
        if self.tls is None:
            # A proxy of the environment would take what is for this machine through another.
            direct = [("grpc.enable_http_proxy", 0)] if is_loopback(self.address) else []
            return library.insecure_channel(self.address, options=[*options, *direct])
        if self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return library.secure_channel(self.address, self.tls.credentials(), options=options)


def make_request_id() -> str:
    """Make a name for a call, unlike any other."""
    return secrets.token_hex(16)
