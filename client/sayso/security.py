"""TLS of a channel, and which addresses need none."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc

from sayso.errors import SettingsError


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
        """Raise `SettingsError` for a file that cannot be read, or one of the pair alone."""
        if (self.certificate is None) != (self.key is None):
            raise SettingsError("TLS: a client's certificate and its key go together; give both")
        return grpc.ssl_channel_credentials(*map(_bytes, (self.ca, self.key, self.certificate)))


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
