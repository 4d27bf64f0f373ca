"""A client's credential: shown in every kind of call, and never in plaintext to the network."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from sayso import AsyncClient, Client, PermissionDenied, SettingsError, Tls, Unauthenticated

from service.access import Authenticator, Keys, Role, key_file
from service.access.keys import make_key
from service.access.tls import Certificates, server_credentials
from tests.support.certificates import LOCAL, Authority
from tests.support.whoami_server import WhoamiServer

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def key(tmp_path: Path) -> str:
    key, entry = make_key("bank", [Role.VERIFY], now=NOW, expires=None)
    key_file.change(tmp_path / "keys.json", lambda grants: (grants.replace(entry), None))
    return key


@pytest.fixture
def authenticator(tmp_path: Path, key: str) -> Authenticator:
    return Authenticator(keys=Keys(tmp_path / "keys.json", now=lambda: NOW), tokens=None)


@pytest.fixture
def plaintext(authenticator: Authenticator) -> Iterator[WhoamiServer]:
    with WhoamiServer(authenticator) as running:
        yield running


def test_unary_calls_and_streams_show_it(plaintext: WhoamiServer, key: str) -> None:
    with Client(plaintext.address, credential=key) as sayso:
        assert sayso.speakers.get("x").metadata["tenant"] == "bank"
        told = [each.explanation for each in sayso.verify_stream("x", [b"1", b"2"])]
    assert told == ["bank"] * len(told) != []


def test_over_tls(authenticator: Authenticator, authority: Authority, key: str) -> None:
    pair = authority.issue("server", LOCAL)
    credentials = server_credentials(Certificates(pair.certificate, pair.key))
    with (
        WhoamiServer(authenticator, credentials) as server,
        Client(server.address, credential=key, tls=Tls(authority.certificate)) as sayso,
    ):
        assert sayso.speakers.get("x").metadata["tenant"] == "bank"


async def test_awaited_calls_and_streams_show_it(
    authenticator: Authenticator, authority: Authority, key: str
) -> None:
    pair = authority.issue("server", LOCAL)
    credentials = server_credentials(Certificates(pair.certificate, pair.key))
    tls = Tls(authority.certificate)
    with WhoamiServer(authenticator, credentials) as server:
        async with AsyncClient(server.address, credential=key, tls=tls) as sayso:
            assert (await sayso.speakers.get("x")).metadata["tenant"] == "bank"
            stream = sayso.verify_stream("x", [b"1", b"2"])
            assert {each.explanation async for each in stream} == {"bank"}
        async with AsyncClient(server.address, tls=tls) as nobody:
            with pytest.raises(Unauthenticated):
                await nobody.speakers.get("x")


def test_a_server_may_be_reached_by_another_name(authority: Authority) -> None:
    pair = authority.issue("server", [x509.DNSName("voice.bank.example")])
    credentials = server_credentials(Certificates(pair.certificate, pair.key))
    with WhoamiServer(credentials=credentials) as server:
        with Client(server.address, tls=Tls(authority.certificate), timeout_s=5) as sayso:
            assert not sayso.ready()
        named = Tls(authority.certificate, server_name="voice.bank.example")
        with Client(server.address, tls=named) as sayso:
            assert sayso.ready()


def test_refusals_have_classes_of_their_own(plaintext: WhoamiServer, key: str) -> None:
    with Client(plaintext.address) as nobody, pytest.raises(Unauthenticated, match="credential"):
        nobody.speakers.get("x")
    with Client(plaintext.address, credential=key) as sayso, pytest.raises(PermissionDenied):
        sayso.speakers.delete("x")


def test_a_credential_does_not_leave_this_machine_in_plaintext(key: str) -> None:
    with pytest.raises(SettingsError, match="SAYSO_CA") as caught:
        Client("voice.bank.example:50051", credential=key)
    assert key not in str(caught.value)
    with pytest.raises(SettingsError, match="SAYSO_CA"):
        AsyncClient("voice.bank.example:50051", credential=key)
    Client("voice.bank.example:50051", credential=key, insecure=True).close()
    Client("voice.bank.example:50051", credential=key, tls=Tls()).close()
    Client("voice.bank.example:50051").close()


def test_nor_through_a_proxy_of_the_environment(
    plaintext: WhoamiServer, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Client(plaintext.address, credential=key, timeout_s=5) as sayso:
        assert sayso.speakers.get("x").metadata["tenant"] == "bank"


def test_files_that_are_missing(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("client")
    with pytest.raises(SettingsError, match="give both"):
        Client(tls=Tls(authority.certificate, certificate=pair.certificate))
    with pytest.raises(SettingsError, match=r"cannot read .*nowhere"):
        Client(tls=Tls(tmp_path / "nowhere.pem"))
