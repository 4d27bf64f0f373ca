"""What the trail's key is for: pseudonyms of speakers, and a code on every entry, both HMAC-SHA256
(RFC 2104).

Without the key file nobody can tell from an entry whose it is, nor find a speaker's entries, nor
write an entry that verifies.
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
    """Pseudonyms under one key; the same id has another one in every tenant."""

    key: bytes = field(repr=False)

    @property
    def signing_key(self) -> bytes:
        """The key of the entries' codes, of its own so that no code is also a pseudonym."""
        return hmac.digest(self.key, b"sayso audit entry", hashlib.sha256)

    @classmethod
    def read(cls, path: Path) -> Self:
        """From the key in `path`; raises `SettingsError` for one missing, malformed or readable by
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
        """As `read`; makes the key at first use, the same one for all who do so at once."""
        if not path.exists():
            try:
                _make(path)
            except OSError as error:
                raise SettingsError(f"{path} cannot be made: {error}") from error
        return cls.read(path)

    def of(self, tenant: str, speaker_id: str) -> str:
        """The pseudonym, in hexadecimal; empty for nobody."""
        if not speaker_id:
            return ""
        name = json.dumps([tenant, speaker_id]).encode()
        return hmac.new(self.key, name, hashlib.sha256).hexdigest()


def key_beside(folder: Path) -> Path:
    """Where the key of the trail in `folder` is unless a setting says otherwise."""
    return folder.with_suffix(".key")


def _make(path: Path) -> None:
    """Whole or not at all, and only where there is none."""
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
