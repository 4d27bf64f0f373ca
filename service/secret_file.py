"""Read files that decide who may do what; secrets that others can read and files that others can
write are refused.

A secret is readable by its owner only, or by one group if root owns it, which is how Kubernetes
mounts a Secret for a pod with its own group. Public files may be read by anyone and written by
their owner only.
"""

import stat
from pathlib import Path

from service.errors import SettingsError

_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITTEN_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def read_secret(path: Path) -> str:
    """Read a secret as text; raises SettingsError if it is missing, or others may read it."""
    try:
        return read_secret_bytes(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the secret file {path} cannot be read: {error}") from error


def read_secret_bytes(path: Path) -> bytes:
    """Read a secret; raises SettingsError if others may read or write the file, and OSError."""
    status = path.stat()
    others = _OF_OTHERS & ~stat.S_IRGRP if status.st_uid == 0 else _OF_OTHERS
    if status.st_mode & others:
        raise SettingsError(
            f"{path} can be read or written by others than its owner: chmod 600 {path}"
        )
    return path.read_bytes()


def read_public_bytes(path: Path) -> bytes:
    """Read a public file; raises SettingsError if others may write it, and OSError."""
    if path.stat().st_mode & _WRITTEN_BY_OTHERS:
        raise SettingsError(
            f"{path} can be written by others than its owner, who would decide whom this server "
            f"trusts: chmod 644 {path}"
        )
    return path.read_bytes()
