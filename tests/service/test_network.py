import pytest

from service.errors import SettingsError
from service.network import check_listener, is_loopback

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
    check_listener(address, tls=False, insecure=False)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_other_machines_need_tls_or_a_word(address: str) -> None:
    assert not is_loopback(address)
    with pytest.raises(SettingsError, match=r"SAYSO_TLS_CERTIFICATE.*SAYSO_INSECURE"):
        check_listener(address, tls=False, insecure=False)
    check_listener(address, tls=True, insecure=False)
    check_listener(address, tls=False, insecure=True)
