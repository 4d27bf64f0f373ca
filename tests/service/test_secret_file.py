"""Files that decide who may do what are refused where others could read or write them."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.access import TokenRules, Tokens
from service.access.keys import Keys
from service.access.tls import Certificates
from service.errors import SettingsError
from service.sealing import LocalMaster
from service.secret_file import read_public_bytes, read_secret_bytes
from tests.support.certificates import LOCAL, Authority

OPEN_TO_OTHERS = [0o666, 0o640, 0o644, 0o620, 0o604, 0o601, 0o660]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_bytes(b'{"keys": [], "certificates": []}')
    os.chown(file, 12345, -1)
    return file


pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="gives files to another user")


@pytest.mark.parametrize("mode", OPEN_TO_OTHERS)
def test_a_secret_is_for_its_owner(mode: int, path: Path) -> None:
    path.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        read_secret_bytes(path)
    path.chmod(0o400)
    assert read_secret_bytes(path)


def test_roots_secret_may_be_read_by_one_group(path: Path) -> None:
    os.chown(path, 0, -1)
    path.chmod(0o440)
    assert read_secret_bytes(path)
    for mode in (0o460, 0o444):
        path.chmod(mode)
        with pytest.raises(SettingsError, match="chmod 600"):
            read_secret_bytes(path)


def test_what_is_public_is_written_by_its_owner_only(path: Path) -> None:
    path.chmod(0o644)
    assert read_public_bytes(path)
    for mode in (0o664, 0o646, 0o666):
        path.chmod(mode)
        with pytest.raises(SettingsError, match="whom this server trusts: chmod 644"):
            read_public_bytes(path)


@pytest.mark.parametrize("mode", [0o666, 0o644])
def test_every_such_file_of_a_server_is_looked_at(mode: int, path: Path, tmp_path: Path) -> None:
    path.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        Keys(path, now=lambda: datetime.now(UTC)).load()
    with pytest.raises(SettingsError, match="chmod 600"):
        LocalMaster.from_file(path)
    authority = Authority(tmp_path)
    pair = authority.issue("server", LOCAL)
    pair.key.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        Certificates(pair.certificate, pair.key).read()
    pair.key.chmod(0o600)
    authority.certificate.chmod(0o666)
    with pytest.raises(SettingsError, match="chmod 644"):
        Certificates(pair.certificate, pair.key, authority.certificate).read()
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps({"keys": []}))
    jwks.chmod(0o666)
    with pytest.raises(SettingsError, match="chmod 644"):
        Tokens(jwks, TokenRules("https://issuer", "sayso")).load()
