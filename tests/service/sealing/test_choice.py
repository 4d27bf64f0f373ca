"""Settings choose one KMS, or none."""

from pathlib import Path
from typing import Any

import pytest

from service.errors import SettingsError
from service.sealing import LocalMaster, VaultTransit, chosen
from tests.support.master_keys import new_key


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text(new_key())
    return path


def test_none() -> None:
    assert chosen() is None


def test_each(secret: Path) -> None:
    assert isinstance(chosen(master_key_file=secret), LocalMaster)
    assert isinstance(chosen(master_keys=new_key()), LocalMaster)
    vault = chosen(vault_address="https://vault:8200", vault_token_file=secret)
    assert isinstance(vault, VaultTransit)


@pytest.mark.parametrize(
    "more", [{"master_keys": "k"}, {"vault_address": "https://vault:8200"}], ids=str
)
def test_two_are_one_too_many(secret: Path, more: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="in one place"):
        chosen(master_key_file=secret, **more)


def test_vault_needs_a_token() -> None:
    with pytest.raises(SettingsError, match="SAYSO_VAULT_TOKEN_FILE"):
        chosen(vault_address="https://vault:8200")
