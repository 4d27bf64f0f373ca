"""A secret in a file that its owner alone may read, or that root lets one group read.

The second is how Kubernetes mounts a Secret for a pod with a group of its own.
"""

from pathlib import Path

from service.errors import SettingsError


def secret_text(path: Path) -> str:
    """Raises SettingsError for a file that is missing, or that others may read."""
    try:
        found = path.stat()
        if found.st_mode & (0o037 if found.st_uid == 0 else 0o077):
            raise SettingsError(f"{path} can be read by others than its owner: chmod 600 {path}")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the secret file {path} cannot be read: {error}") from error
