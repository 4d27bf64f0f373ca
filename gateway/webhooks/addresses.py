"""Where a webhook may go: public addresses, and networks that the operator allows.

Whoever may set an endpoint, or its DNS, could otherwise have the gateway post to services that only
it reaches (server-side request forgery).
"""

import errno
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # NAT64, RFC 6052
_UNICAST = ipaddress.IPv6Network("2000::/3")
_PROTOCOLS = ipaddress.IPv4Network("192.0.0.0/24")  # older Pythons call it global
_PLATFORMS = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Public by its number, but Azure's own service to each virtual machine. The metadata services of
other clouds have link-local or private addresses."""


class AddressRefused(OSError):
    """An endpoint leads to an address that is not allowed."""


def is_public(address: Address) -> bool:
    """Whether an address is of the internet, through every way to write IPv4 in IPv6."""
    address = _unwrap(address)
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not (
        address.is_multicast or address in _PLATFORMS or address in _PROTOCOLS
    )


def make_guard(allowed: Sequence[Network]) -> Callable[[Any], socket.socket]:
    """A socket factory for aiohttp. It is asked with the very address that is then connected to,
    so that a name cannot lead elsewhere between the check and the connection."""

    def make_socket(info: Any) -> socket.socket:
        family, kind, protocol, _, (host, *_) = info
        address = ipaddress.ip_address(host.partition("%")[0])
        if not (is_public(address) or _is_within(address, allowed)):
            reason = f"{host} is not a public address; `allow` names others"
            raise AddressRefused(errno.EACCES, reason)
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return make_socket


def _is_within(address: Address, networks: Sequence[Network]) -> bool:
    return any(_unwrap(address) in network or address in network for network in networks)


def _unwrap(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    _, behind_teredo = address.teredo or (None, None)
    return address.ipv4_mapped or address.sixtofour or behind_teredo or address
