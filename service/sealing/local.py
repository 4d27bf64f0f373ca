"""Master keys on this machine: in a file, or in an environment variable.

A wrapped key is `local:`, the id of the master key (8 bytes), a nonce (12), and AES-256-GCM's
ciphertext and tag with the context as associated data.
"""

import base64
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from service.errors import SettingsError, Unavailable
from service.reload import Reloaded
from service.secret_file import read_secret

_Keys = Mapping[bytes, bytes]  # master keys by id, the newest last

_MARK = b"local:"
_ID_BYTES = 8
_NONCE_BYTES = 12


class LocalMaster:
    """`Kms` with one or more keys: the last one wraps, any of them unwraps.

    `keys` is called at every use, so that a key added to a file counts without a restart.
    """

    def __init__(self, keys: Callable[[], _Keys]) -> None:
        self._keys = keys

    @classmethod
    def from_file(cls, path: Path, *, clock: Callable[[], float] = time.monotonic) -> Self:
        """Raise SettingsError unless the file holds keys and only its owner may read it."""
        file = Reloaded([path], lambda: _parse(read_secret(path)), clock=clock)
        _ = file.value
        return cls(lambda: file.value)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Raise SettingsError unless there are keys in it."""
        keys = _parse(text)
        return cls(lambda: keys)

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        key_id, master = list(self._keys().items())[-1]
        nonce = secrets.token_bytes(_NONCE_BYTES)
        head = _MARK + key_id
        return head + nonce + AESGCM(master).encrypt(nonce, key, head + context)

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        head = wrapped[: len(_MARK) + _ID_BYTES]
        master = self._keys().get(head[len(_MARK) :])
        if not wrapped.startswith(_MARK) or master is None:
            raise Unavailable(
                "a tenant's key was wrapped by a master key that is not among this server's: "
                "put it back"
            )
        nonce, sealed = wrapped[len(head) :][:_NONCE_BYTES], wrapped[len(head) + _NONCE_BYTES :]
        try:
            return AESGCM(master).decrypt(nonce, sealed, head + context)
        except (InvalidTag, ValueError) as error:
            raise Unavailable(
                "a tenant's wrapped key was changed, or is another tenant's: restore it"
            ) from error

    async def rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        return await self.wrap(await self.unwrap(wrapped, context), context)


def _parse(text: str) -> _Keys:
    try:
        keys = [base64.b64decode(word, validate=True) for word in text.split()]
    except ValueError as error:
        raise SettingsError(
            "a master key is not base64: make one with openssl rand -base64 32"
        ) from error
    if not keys or any(len(key) != 32 for key in keys):
        raise SettingsError(
            "master keys are 32 bytes each in base64, one or more: make one with "
            "openssl rand -base64 32"
        )
    return {_derive_id(key): key for key in keys}


def _derive_id(master: bytes) -> bytes:
    return HKDFExpand(SHA256(), _ID_BYTES, b"sayso master key id").derive(master)
