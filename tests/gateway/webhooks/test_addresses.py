"""Addresses that a webhook may not reach, however they are written."""

import ipaddress
import socket

import pytest

from gateway.webhooks.addresses import AddressRefused, is_public, make_guard

REFUSED = [
    "0.0.0.0",  # noqa: S104 - refused
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",  # metadata of Alibaba
    "127.0.0.1",
    "127.1.2.3",
    "168.63.129.16",  # Azure
    "169.254.169.254",  # metadata of most clouds
    "169.254.170.2",
    "172.16.0.1",
    "192.0.0.192",  # metadata of Oracle
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "232.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo of 127.0.0.1
    "fc00::1",
    "fd00:ec2::254",  # metadata of AWS
    "fe80::1",
    "ff02::1",
    "ff0e::1",
    "2001:db8::1",
    "::7f00:1",
    "fec0::1",
    "5f00::1",
    "64:ff9b:1::1",
]


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_what_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def make_info(host: str) -> tuple[object, ...]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return family, socket.SOCK_STREAM, 0, "", (host, 443)


@pytest.mark.parametrize("address", [*REFUSED, "fe80::1%eth0"])
def test_the_guard_makes_no_socket_for_it(address: str) -> None:
    with pytest.raises(AddressRefused, match="not a public address"):
        make_guard(())(make_info(address))


def test_the_guard_lets_through_what_is_allowed() -> None:
    guard = make_guard([ipaddress.ip_network("10.1.0.0/16")])
    guard(make_info("10.1.2.3")).close()
    with pytest.raises(AddressRefused):
        guard(make_info("10.2.0.1"))
