"""Where plaintext may be spoken: on this machine, or where somebody has said so."""

import ipaddress

from service.errors import SettingsError


def check_listener(listen: str, *, tls: bool, insecure: bool) -> None:
    """Raises `SettingsError` where `listen` would be plaintext for others than this machine."""
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
