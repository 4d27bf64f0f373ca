"""Which addresses stay on this machine: only there may a credential go in plaintext."""

import pytest
from sayso.security import is_loopback

HERE = [
    *("127.0.0.1:50051", "127.9.9.9:1", "localhost:1", "[::1]:1", "dns:///localhost:1", "unix:/s"),
    "ipv4:127.0.0.1:1,127.0.0.1:2",
]
ELSEWHERE = [
    *("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.com:1", "localhost.example.com:1"),
    *("127.0.0.1.example.com:1", "ipv4:10.0.0.1:1,127.0.0.1:1", "dns://8.8.8.8/localhost:1", ":1"),
    *("ipv4:127.0.0.1:1,10.0.0.1:1", "127.0.0.1:1,", "ipv4:127.0.0.1:1,unix:/s"),
]


@pytest.mark.parametrize("address", HERE)
def test_this_machine(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_other_machines(address: str) -> None:
    assert not is_loopback(address)
