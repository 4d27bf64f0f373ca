"""Addresses that an operator gives to listen on."""

from service.errors import SettingsError


def host_and_port(listen: str, *, variable: str, example: str) -> tuple[str, str]:
    """Of host:port; raises `SettingsError` that names the environment `variable`."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(f"{variable}: {listen!r} is not host:port, e.g. {example}")
    return host, port
