"""Addresses that an operator gives to listen on."""

from service.errors import SettingsError

_LAST_PORT = 65_535


def host_and_port(listen: str, *, variable: str, example: str) -> tuple[str, str]:
    """Of host:port; raises `SettingsError` that names the environment `variable`.

    A port beyond 65535 is an error here: gRPC would listen on what remains of it modulo 65536.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(f"{variable}: {listen!r} is not host:port, e.g. {example}")
    if int(port) > _LAST_PORT:
        raise SettingsError(f"{variable}: {port} is no port; they go from 0 to {_LAST_PORT}")
    return host, port
