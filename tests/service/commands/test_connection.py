"""What client commands take from the environment, against a real TLS server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from service.access.tls import Certificates, server_credentials
from service.commands.application import app
from service.commands.options import connect
from tests.support.certificates import LOCAL, Authority
from tests.support.whoami_server import WhoamiServer


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Iterator[WhoamiServer]:
    pair = authority.issue("server", LOCAL)
    certificates = Certificates(pair.certificate, pair.key, authority.certificate)
    with WhoamiServer(credentials=server_credentials(certificates)) as running:
        yield running


def test_certificates_come_from_the_environment(
    server: WhoamiServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = authority.issue("client")
    monkeypatch.setenv("SAYSO_CA", str(authority.certificate))
    with connect(server.address, timeout_s=5) as sayso:
        assert not sayso.ready()
    monkeypatch.setenv("SAYSO_CLIENT_CERTIFICATE", str(pair.certificate))
    monkeypatch.setenv("SAYSO_CLIENT_KEY", str(pair.key))
    with connect(server.address) as sayso:
        assert sayso.ready()


@pytest.mark.parametrize(
    ("environment", "hint"),
    [
        ({"SAYSO_CREDENTIAL": "hunter2"}, "SAYSO_INSECURE"),
        ({"SAYSO_TLS": "perhaps"}, "SAYSO_TLS: is true or false"),
        ({"SAYSO_CA": "/nowhere.pem"}, "/nowhere.pem"),
        ({"SAYSO_CLIENT_KEY": "/nowhere.pem"}, "give both"),
    ],
)
def test_a_mistake_is_one_line(
    environment: dict[str, str],
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(typer.Exit) as caught, connect("voice.bank.example:1"):
        pass
    assert caught.value.exit_code == 2
    told = capsys.readouterr().err
    assert hint in told
    assert "hunter2" not in told
    assert len(told.splitlines()) == 1


def test_a_credential_goes_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_CREDENTIAL", "hunter2")
    for name in ("SAYSO_INSECURE", "SAYSO_TLS"):
        with monkeypatch.context() as allowed:
            allowed.setenv(name, "true")
            with connect("voice.bank.example:1"):
                pass


def test_a_server_that_does_not_answer_is_named() -> None:
    ended = CliRunner().invoke(app, ["speakers", "list", "--server", "127.0.0.1:1"])
    assert ended.exit_code == 2
    assert ended.stderr.startswith("error: 127.0.0.1:1 is unavailable: ")
    assert "`sayso health --server 127.0.0.1:1`" in ended.stderr
