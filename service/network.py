"""Addresses that an operator gives to listen on or to connect to."""

import ipaddress

from service.errors import SettingsError

_LAST_PORT = 65_535


def parse_host_and_port(listen: str, *, variable: str, example: str) -> tuple[str, str]:
    """Split host:port; raises `SettingsError` that names the environment `variable`.

    A port beyond 65535 is an error here: gRPC would listen on what remains of it modulo 65536.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(f"{variable}: {listen!r} is not host:port, e.g. {example}")
    if int(port) > _LAST_PORT:
        raise SettingsError(f"{variable}: {port} is no port; they go from 0 to {_LAST_PORT}")
    return host, port


def check_listener(listen: str, *, tls: bool, insecure: bool) -> None:
    """Raise `SettingsError` if `listen` would offer plaintext to other machines."""
    if not (tls or insecure or is_loopback(listen)):
        raise SettingsError(
            f"SAYSO_LISTEN: {listen} would be plaintext for the network; set "
            "SAYSO_TLS_CERTIFICATE and SAYSO_TLS_KEY, or listen on 127.0.0.1, or, behind a proxy "
            "that does TLS, set SAYSO_INSECURE=true"
        )


def is_loopback(address: str) -> bool:
    """Whether host:port, or a gRPC target with all its addresses, stays on this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in ("dns:///", "ipv4:", "ipv6:"):
        address = address.removeprefix(scheme)
    return all(map(_is_loopback, address.split(",")))


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
