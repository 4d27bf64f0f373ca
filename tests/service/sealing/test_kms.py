"""Settings choose one KMS, or none."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from service.errors import SettingsError
from service.sealing import LocalMaster, VaultTransit, choose_kms
from service.settings import MasterKeyOptions
from tests.support.master_keys import new_key


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text(new_key())
    return path


def test_none() -> None:
    assert choose_kms(MasterKeyOptions()) is None


def test_each(secret: Path) -> None:
    assert isinstance(choose_kms(MasterKeyOptions(file=secret)), LocalMaster)
    assert isinstance(choose_kms(MasterKeyOptions(keys=SecretStr(new_key()))), LocalMaster)
    vault = choose_kms(
        MasterKeyOptions(vault_address="https://vault:8200", vault_token_file=secret)
    )
    assert isinstance(vault, VaultTransit)


@pytest.mark.parametrize("more", [{"keys": "k"}, {"vault_address": "https://vault:8200"}], ids=str)
def test_two_are_one_too_many(secret: Path, more: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="in one place"):
        choose_kms(MasterKeyOptions(file=secret, **more))


def test_vault_needs_a_token() -> None:
    with pytest.raises(SettingsError, match="SAYSO_VAULT_TOKEN_FILE"):
        choose_kms(MasterKeyOptions(vault_address="https://vault:8200"))
