"""Files of secrets: a line for each, of one or more words; `#` begins a comment."""

import stat
from pathlib import Path

from sayso import SettingsError

_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_secrets(path: Path, *, words: str) -> list[list[str]]:
    """Read the lines of a file, each of as many words as `words` names, e.g. "key secret".

    Raises `SettingsError` if the file cannot be read, others than its owner may read it, or a line
    is another; the message quotes none.
    """
    try:
        status = path.stat()
        # Kubernetes mounts a Secret as root's, readable by the group of the pod.
        others = _OF_OTHERS & ~stat.S_IRGRP if status.st_uid == 0 else _OF_OTHERS
        if status.st_mode & others:
            raise SettingsError(f"{path} can be read by others than its owner: chmod 600 {path}")
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the secret file {path} cannot be read: {error}") from error
    secrets = []
    for number, line in enumerate(lines, start=1):
        found = line.partition("#")[0].split()
        if found and len(found) != len(words.split()):
            raise SettingsError(f"{path}, line {number}: must be `{words}`")
        if found:
            secrets.append(found)
    if not secrets:
        raise SettingsError(f"{path} holds no secret: write a line `{words}`")
    return secrets
