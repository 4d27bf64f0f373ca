"""The trail's key, for pseudonyms of speakers and for signing entries, both by HMAC-SHA256
(RFC 2104).

Without the key file nobody can link entries to a speaker or write an entry that verifies.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from service.errors import SettingsError

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Subjects:
    """Pseudonyms under one key; the same id has a different one in every tenant."""

    key: bytes = field(repr=False)

    @property
    def signing_key(self) -> bytes:
        """The key for signing entries, separate so that no signature is also a pseudonym."""
        return hmac.digest(self.key, b"sayso audit entry", hashlib.sha256)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the key file; raises `SettingsError` if it is missing, malformed or readable by
        others."""
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            key = bytes.fromhex(path.read_text().strip())
        except (OSError, ValueError) as error:
            raise SettingsError(f"{path} cannot be read as an audit key: {error}") from error
        if len(key) != KEY_BYTES:
            raise SettingsError(f"{path} holds {len(key)} bytes, an audit key has {KEY_BYTES}")
        if mode & 0o077:
            raise SettingsError(f"{path} may be read by others (mode {mode:o}): chmod 600 {path}")
        return cls(key)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the key file, creating it on first use; concurrent openers get the same key."""
        if not path.exists():
            try:
                _create(path)
            except OSError as error:
                raise SettingsError(f"{path} cannot be made: {error}") from error
        return cls.read(path)

    def make_pseudonym(self, tenant: str, speaker_id: str) -> str:
        """The pseudonym in hexadecimal; empty for an empty id."""
        if not speaker_id:
            return ""
        name = json.dumps([tenant, speaker_id]).encode()
        return hmac.new(self.key, name, hashlib.sha256).hexdigest()


def key_beside(folder: Path) -> Path:
    """The default path of the key of the trail in `folder`."""
    return folder.with_suffix(".key")


def _create(path: Path) -> None:
    """Create the file atomically, unless it exists."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, f"{secrets.token_hex(KEY_BYTES)}\n".encode())
        os.fsync(file)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.close(file)
        draft.unlink()
