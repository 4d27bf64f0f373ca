"""Real TLS connections to a real server whose certificates are replaced under it."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from sayso import Client, Tls, Unauthenticated

from service.access import Authenticator, Keys, Role, key_file
from service.access.grants import ClientCertificate
from service.access.tls import Certificates, server_credentials
from service.errors import SettingsError
from service.settings import TlsFiles
from tests.support.certificates import LOCAL, Authority, Pair
from tests.support.whoami_server import WhoamiServer

NOW = datetime(2026, 1, 2, tzinfo=UTC)
IVR = "spiffe://bank/ivr"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("first", LOCAL, file="server")


@pytest.fixture
def server(pair: Pair) -> Iterator[WhoamiServer]:
    credentials = server_credentials(Certificates(pair.certificate, pair.key), look_every_s=0)
    with WhoamiServer(credentials=credentials) as running:
        yield running


def shown(server: WhoamiServer, authority: Authority) -> str:
    """The common name on the certificate that a new connection sees."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.set_alpn_protocols(["h2"])

    async def look() -> str:
        _, writer = await asyncio.open_connection(*server.address.split(":"), ssl=context)
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        with contextlib.suppress(OSError):  # the server may have hung up on who says no more
            await writer.wait_closed()
        return x509.load_der_x509_certificate(certificate).subject.rfc4514_string()

    return asyncio.run(look())


def test_a_client_that_trusts_the_authority(server: WhoamiServer, authority: Authority) -> None:
    with Client(server.address, tls=Tls(authority.certificate)) as sayso:
        assert sayso.ready()
        assert sayso.speakers.get("x").metadata["tenant"] == "default"


def test_a_client_that_does_not(server: WhoamiServer, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    with Client(server.address, tls=Tls(other.certificate), timeout_s=5) as sayso:
        assert not sayso.ready()
    with Client(server.address, timeout_s=5) as plaintext:
        assert not plaintext.ready()


def test_a_new_connection_sees_a_new_certificate_and_an_old_one_goes_on(
    server: WhoamiServer, authority: Authority
) -> None:
    with Client(server.address, tls=Tls(authority.certificate)) as old:
        assert list(old.verify_stream("x", [b"1"]))
        during = old.verify_stream("x", iter([b"1", b"2"]))
        assert next(during).explanation == "default"
        assert shown(server, authority) == "CN=first"
        authority.issue("second", LOCAL, file="server")
        assert shown(server, authority) == "CN=second"
        assert len(list(during)) == 2
        assert old.speakers.get("x").metadata["tenant"] == "default"


def test_half_a_replacement_waits_for_the_other_half(
    server: WhoamiServer, authority: Authority, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    second = authority.issue("second", LOCAL)
    pair.certificate.write_bytes(second.certificate.read_bytes())
    assert shown(server, authority) == "CN=first"
    assert "is not the key of the first certificate" in caplog.text
    pair.key.write_bytes(second.key.read_bytes())
    assert shown(server, authority) == "CN=second"


@pytest.fixture
def mutual(pair: Pair, authority: Authority, tmp_path: Path) -> Iterator[WhoamiServer]:
    """Knows `IVR` as a verifying client of the tenant `bank`."""
    ivr = ClientCertificate(
        id="1", tenant="bank", roles=frozenset({Role.VERIFY}), created=NOW, name=IVR
    )
    key_file.change(tmp_path / "keys.json", lambda grants: (grants.replace(ivr), None))
    keys = Keys(tmp_path / "keys.json", now=lambda: NOW)
    certificates = Certificates(pair.certificate, pair.key, authority.certificate)
    credentials = server_credentials(certificates, look_every_s=0)
    with WhoamiServer(Authenticator(keys=keys, tokens=None), credentials) as running:
        yield running


def client(server: WhoamiServer, authority: Authority, pair: Pair | None) -> Client:
    tls = Tls(authority.certificate, pair and pair.certificate, pair and pair.key)  # type: ignore[arg-type]
    return Client(server.address, tls=tls, timeout_s=5)


def test_mutual_tls_says_who_calls(mutual: WhoamiServer, authority: Authority) -> None:
    names = [x509.DNSName("ivr.bank.example"), x509.UniformResourceIdentifier(IVR)]
    with client(mutual, authority, authority.issue("ivr", names)) as sayso:
        assert sayso.speakers.get("x").metadata == {
            "tenant": "bank",
            "roles": "verify",
            "credential": f"certificate:{IVR}",
        }


def test_a_certificate_that_nobody_granted_anything(
    mutual: WhoamiServer, authority: Authority
) -> None:
    """The common name counts only where there is no alternative name."""
    stranger = authority.issue(IVR, [x509.DNSName("ivr.bank.example")], file="stranger")
    with (
        client(mutual, authority, stranger) as sayso,
        pytest.raises(Unauthenticated, match="nobody"),
    ):
        sayso.speakers.get("x")


@pytest.mark.parametrize(
    "alternatives",
    [
        [x509.DNSName(IVR)],
        [x509.RFC822Name(IVR)],
        [x509.DNSName("x.example"), x509.RFC822Name(IVR)],
        [],
    ],
)
def test_a_name_of_another_kind_is_another_name(
    alternatives: list[x509.GeneralName], mutual: WhoamiServer, authority: Authority
) -> None:
    """An authority may let anyone have a DNS name or a common name that looks like a URI."""
    pair = authority.issue(IVR, alternatives, file="impostor")
    with (
        client(mutual, authority, pair) as sayso,
        pytest.raises(Unauthenticated, match="nobody"),
    ):
        sayso.speakers.get("x")


def test_mutual_tls_refuses_who_shows_none_or_one_of_another_authority(
    mutual: WhoamiServer, authority: Authority, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path, "foreign").issue("x", [x509.UniformResourceIdentifier(IVR)])
    for pair in (None, foreign):
        with client(mutual, authority, pair) as sayso:
            assert not sayso.ready()


def test_the_authority_of_clients_is_replaced_too(
    mutual: WhoamiServer, authority: Authority, tmp_path: Path
) -> None:
    new = Authority(tmp_path, "new")
    pair = new.issue("new-ivr", [x509.UniformResourceIdentifier(IVR)])
    with client(mutual, authority, pair) as before:
        assert not before.ready()
    roots = authority.certificate.read_bytes() + new.certificate.read_bytes()
    authority.certificate.write_bytes(roots)
    with client(mutual, authority, pair) as after:
        assert after.speakers.get("x").metadata["tenant"] == "bank"


def test_half_of_the_settings_is_an_error(pair: Pair) -> None:
    chain, key = pair.certificate, pair.key
    assert Certificates.from_files(TlsFiles()) is None
    assert Certificates.from_files(TlsFiles(chain, key)) == Certificates(chain, key)
    for half in ((chain, None, None), (None, key, None), (None, None, chain), (chain, None, chain)):
        with pytest.raises(SettingsError, match="go together"):
            Certificates.from_files(TlsFiles(*half))


@pytest.mark.parametrize("broken", ["certificate", "key"])
def test_files_that_cannot_serve_are_told_at_the_start(pair: Pair, broken: str) -> None:
    path: Path = getattr(pair, broken)
    certificates = Certificates(pair.certificate, pair.key)
    path.write_text("no PEM")
    with pytest.raises(SettingsError, match="PEM"):
        server_credentials(certificates)
    path.unlink()
    with pytest.raises(SettingsError, match="cannot read"):
        server_credentials(certificates)


def test_a_key_of_another_certificate(pair: Pair, authority: Authority) -> None:
    other = authority.issue("other", LOCAL)
    with pytest.raises(SettingsError, match="not the key"):
        server_credentials(Certificates(pair.certificate, other.key))
