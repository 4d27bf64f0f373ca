"""How a channel is protected, and what its calls show: TLS, and a credential in the metadata."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from sayso.errors import SettingsError

_Option = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: the roots to trust, else those that come with gRPC; and, for mutual TLS, the
    client's certificate and key. `server_name` is what the server's certificate is for, where
    that is not its address."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises `SettingsError` for a file that cannot be read, or one of the pair alone."""
        if (self.certificate is None) != (self.key is None):
            raise SettingsError("TLS: a client's certificate and its key go together; give both")
        return grpc.ssl_channel_credentials(*map(_bytes, (self.ca, self.key, self.certificate)))


def channel(
    address: str,
    *,
    credential: str | None,
    tls: Tls | None,
    insecure: bool,
    options: Sequence[_Option],
) -> grpc.Channel:
    """Raises `SettingsError` where a credential would leave this machine in plaintext."""
    if tls is not None:
        opened = grpc.secure_channel(
            address, tls.credentials(), options=[*options, *_named(tls.server_name)]
        )
    else:
        if credential and not insecure and not is_loopback(address):
            raise SettingsError(
                f"a credential would go to {address} in plaintext; use TLS (SAYSO_CA), or, where "
                "something else encrypts the connection, allow it (SAYSO_INSECURE=true)"
            )
        opened = grpc.insecure_channel(address, options=[*options, *_direct(address)])
    return grpc.intercept_channel(opened, _Shows(credential)) if credential else opened


def _named(server_name: str | None) -> list[_Option]:
    return [("grpc.ssl_target_name_override", server_name)] if server_name else []


def _direct(address: str) -> list[_Option]:
    """A proxy of the environment would take what is for this machine through another."""
    return [("grpc.enable_http_proxy", 0)] if is_loopback(address) else []


@dataclass(frozen=True, slots=True)
class _Details(grpc.ClientCallDetails):
    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str | bytes], ...] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Shows(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the credential to every call, of whichever kind."""

    def __init__(self, credential: str) -> None:
        self._header = ("authorization", f"Bearer {credential}")

    def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return continuation(self._shown(client_call_details), request)

    def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return continuation(self._shown(client_call_details), request)

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(self._shown(client_call_details), request_iterator)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(self._shown(client_call_details), request_iterator)

    def _shown(self, details: grpc.ClientCallDetails) -> _Details:
        return _Details(
            details.method,
            details.timeout,
            (*(details.metadata or ()), self._header),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


def _bytes(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"TLS: cannot read {path}: {error.strerror}") from error


def is_loopback(address: str) -> bool:
    """Whether host:port, or a gRPC target with all its addresses, stays on this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in ("dns:///", "ipv4:", "ipv6:"):
        address = address.removeprefix(scheme)
    return all(map(_is_loopback_host, address.split(",")))


def _is_loopback_host(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
