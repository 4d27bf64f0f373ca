"""The interface to the master key, and the choice of where it is: in a file or variable on this
machine, or in a service that never reveals it."""

from typing import Protocol

from service.errors import SettingsError
from service.sealing.local import LocalMaster
from service.sealing.vault import VaultTransit
from service.settings import MasterKeyOptions


class Kms(Protocol):
    """Wraps data keys of 32 bytes; a wrapped key unwraps only in the context it was wrapped in.

    Every call raises Unavailable while the master key cannot be used, and for a key that it did
    not wrap in this context.
    """

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """Encrypt `key` under the newest version of the master key."""
        ...

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt under the version of the master key that wrapped it."""
        ...

    async def rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Encrypt the same data key under the newest version of the master key."""
        ...


def choose_kms(options: MasterKeyOptions) -> Kms | None:
    """Return the configured KMS, or None; raises SettingsError for several, or an unusable one."""
    keys = options.keys.get_secret_value()
    if sum(map(bool, (options.file, keys, options.vault_address))) > 1:
        raise SettingsError(
            "the master key is in one place: set only one of SAYSO_MASTER_KEY_FILE, "
            "SAYSO_MASTER_KEYS and SAYSO_VAULT_ADDRESS"
        )
    if options.file is not None:
        return LocalMaster.from_file(options.file)
    if keys:
        return LocalMaster.from_text(keys)
    if not options.vault_address:
        return None
    if options.vault_token_file is None:
        raise SettingsError("SAYSO_VAULT_TOKEN_FILE: names the file of Vault's token, mode 0600")
    return VaultTransit.at(
        options.vault_address,
        key=options.vault_key,
        token_file=options.vault_token_file,
        mount=options.vault_mount,
        ca_file=options.vault_ca_file,
    )
