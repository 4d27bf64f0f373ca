"""Which KMS an operator's settings choose."""

from pathlib import Path

from service.errors import SettingsError
from service.sealing.kms import Kms
from service.sealing.local import LocalMaster
from service.sealing.vault import VaultTransit


def chosen(
    *,
    master_key_file: Path | None = None,
    master_keys: str = "",
    vault_address: str = "",
    vault_key: str = "sayso",
    vault_mount: str = "transit",
    vault_token_file: Path | None = None,
    vault_ca_file: Path | None = None,
) -> Kms | None:
    """None without any; raises SettingsError for more than one, or one that cannot be used."""
    if sum(map(bool, (master_key_file, master_keys, vault_address))) > 1:
        raise SettingsError(
            "the master key is in one place: set only one of SAYSO_MASTER_KEY_FILE, "
            "SAYSO_MASTER_KEYS and SAYSO_VAULT_ADDRESS"
        )
    if master_key_file is not None:
        return LocalMaster.from_file(master_key_file)
    if master_keys:
        return LocalMaster.from_text(master_keys)
    if not vault_address:
        return None
    if vault_token_file is None:
        raise SettingsError("SAYSO_VAULT_TOKEN_FILE: names the file of Vault's token, mode 0600")
    return VaultTransit.at(
        vault_address,
        key=vault_key,
        token_file=vault_token_file,
        mount=vault_mount,
        ca_file=vault_ca_file,
    )
