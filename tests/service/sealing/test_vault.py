"""Vault's Transit engine, by a server that follows its documented HTTP API; no Vault was run."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import SettingsError, Unavailable
from service.sealing import VaultTransit
from tests.support.certificates import LOCAL, Authority
from tests.support.master_keys import Clock
from tests.support.vault_server import VaultServer

DATA_KEY = bytes(range(32))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority: Authority) -> Iterator[VaultServer]:
    with VaultServer(authority.issue("vault", LOCAL)) as started:
        yield started


@pytest.fixture
def token(tmp_path: Path, server: VaultServer) -> Path:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    write(path, server.transit.token)
    return path


def write(path: Path, token: str) -> None:
    path.write_text(f"{token}\n")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vault(server: VaultServer, token: Path, authority: Authority, clock: Clock) -> VaultTransit:
    return VaultTransit.at(
        server.address,
        key="sayso",
        token_file=token,
        ca_file=authority.certificate,
        timeout_s=5.0,
        clock=clock,
    )


async def test_round_trip(vault: VaultTransit, server: VaultServer) -> None:
    wrapped = await vault.wrap(DATA_KEY, b"tenant a")
    assert wrapped.startswith(b"vault:v1:")
    assert await vault.unwrap(wrapped, b"tenant a") == DATA_KEY
    assert server.transit.asked == ["encrypt", "decrypt"]


@pytest.mark.parametrize("derived", [True, False])
async def test_another_context_does_not_unwrap(
    vault: VaultTransit, server: VaultServer, derived: bool
) -> None:
    """Also with a Transit key that ignores the context."""
    server.transit.derived = derived
    wrapped = await vault.wrap(DATA_KEY, b"tenant a")
    with pytest.raises(Unavailable):
        await vault.unwrap(wrapped, b"tenant b")
    assert await vault.unwrap(wrapped, b"tenant a") == DATA_KEY


async def test_rotated_in_vault(vault: VaultTransit, server: VaultServer) -> None:
    wrapped = await vault.wrap(DATA_KEY, b"t")
    server.transit.rotate()
    renewed = await vault.rewrap(wrapped, b"t")
    assert renewed.startswith(b"vault:v2:")
    assert await vault.unwrap(wrapped, b"t") == DATA_KEY
    assert await vault.unwrap(renewed, b"t") == DATA_KEY
    assert server.transit.asked.count("rewrap") == 1


async def test_a_new_token_counts_without_a_restart(
    vault: VaultTransit, server: VaultServer, token: Path, clock: Clock
) -> None:
    server.transit.token = secrets.token_hex()
    with pytest.raises(Unavailable, match="refused to encrypt a tenant's key: Forbidden"):
        await vault.wrap(DATA_KEY, b"t")
    write(token, server.transit.token)
    clock.now_s += 60.0
    assert await vault.unwrap(await vault.wrap(DATA_KEY, b"t"), b"t") == DATA_KEY


async def test_a_changed_key_does_not_unwrap(vault: VaultTransit) -> None:
    wrapped = await vault.wrap(DATA_KEY, b"t")
    for changed in (wrapped[:-8] + b"AAAAAAA=", b"vault:v9:" + wrapped[9:], b"local:" + wrapped):
        with pytest.raises(Unavailable):
            await vault.unwrap(changed, b"t")


@pytest.mark.parametrize(
    "reply",
    [
        (503, b'{"errors":["Vault is sealed"]}'),
        (500, b""),
        (307, b""),
        (404, b'{"errors":[]}'),
        (200, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"data":null}'),
        (200, b'{"data":{}}'),
        (400, b'["errors"]'),
        (200, b'{"data":{"plaintext":"%"}}'),
        (200, b'{"data":{"plaintext":"AAAA"}}'),
    ],
)
async def test_every_other_reply_is_unavailable(
    vault: VaultTransit, server: VaultServer, reply: tuple[int, bytes]
) -> None:
    server.reply = reply
    with pytest.raises(Unavailable):
        await vault.unwrap(b"vault:v1:AAAA", b"t")


async def test_no_answer_is_unavailable_in_time(
    server: VaultServer, token: Path, authority: Authority
) -> None:
    server.held.clear()
    ca_file = authority.certificate
    vault = VaultTransit.at(
        server.address, key="sayso", token_file=token, ca_file=ca_file, timeout_s=0.05
    )
    with pytest.raises(Unavailable, match="Timeout"):
        await vault.wrap(DATA_KEY, b"t")


async def test_no_other_host_is_given_the_token(vault: VaultTransit, server: VaultServer) -> None:
    with VaultServer() as other:
        other.transit.token = server.transit.token
        server.redirect_to = other.address
        with pytest.raises(Unavailable):
            await vault.wrap(DATA_KEY, b"t")
        assert other.transit.asked == []


async def test_a_proxy_of_the_environment_is_not_used(
    vault: VaultTransit, server: VaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    assert (await vault.wrap(DATA_KEY, b"t")).startswith(b"vault:v1:")


def test_a_missing_extra_is_named(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install sayso\[vault\]") as refused:
        VaultTransit.at("https://vault:8200", key="sayso", token_file=token)
    assert "\n" not in str(refused.value)


async def test_nobody_listens(vault: VaultTransit, server: VaultServer) -> None:
    server.stop()
    with pytest.raises(Unavailable, match="ConnectionError"):
        await vault.wrap(DATA_KEY, b"t")


async def test_a_certificate_of_somebody_else_is_refused(
    server: VaultServer, token: Path, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other").certificate
    vault = VaultTransit.at(server.address, key="sayso", token_file=token, ca_file=other)
    with pytest.raises(Unavailable, match="SSLError"):
        await vault.wrap(DATA_KEY, b"t")
    assert server.transit.asked == []


async def test_an_agent_on_this_machine_may_speak_plain_http(
    server: VaultServer, token: Path
) -> None:
    with VaultServer() as agent:
        agent.transit.token = server.transit.token
        vault = VaultTransit.at(agent.address, key="sayso", token_file=token)
        assert await vault.unwrap(await vault.wrap(DATA_KEY, b"t"), b"t") == DATA_KEY


@pytest.mark.parametrize(
    "address", ["http://vault.example:8200", "vault:8200", "https://", "https://vault:port", ""]
)
def test_an_address_that_would_show_keys_or_is_none(address: str, token: Path) -> None:
    with pytest.raises(SettingsError, match="https://host:port"):
        VaultTransit.at(address, key="sayso", token_file=token)


def test_a_token_that_others_may_read(token: Path) -> None:
    token.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        VaultTransit.at("https://vault:8200", key="sayso", token_file=token)


def test_no_certificates_in_the_file(token: Path) -> None:
    with pytest.raises(SettingsError, match="no certificates"):
        VaultTransit.at("https://vault:8200", key="sayso", token_file=token, ca_file=token)
