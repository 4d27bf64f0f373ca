"""The key file: grants as JSON, readable by its owner only, changed as a whole.

A change is written to a temporary file, made durable and renamed over the old one, under a lock, so
that no reader and no second writer sees a partial file.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from service.access.grants import Grants
from service.errors import SettingsError
from service.secret_file import read_secret_bytes

T = TypeVar("T")


def read(path: Path) -> Grants:
    """Read the grants; raises `SettingsError` if the file is missing, malformed or readable by
    others."""
    try:
        return Grants.model_validate_json(read_secret_bytes(path))
    except OSError as error:
        raise SettingsError(
            f"SAYSO_KEYS: cannot read {path}: {error.strerror}; `sayso keys create` makes one"
        ) from error
    except ValidationError as error:
        raise SettingsError(f"SAYSO_KEYS: {path} is no key file: {_describe(error)}") from error


def change(path: Path, edit: Callable[[Grants], tuple[Grants, T]]) -> T:
    """Replace the grants by the first value that `edit` returns, and return the second.

    A missing file counts as no grants. Raises `SettingsError` as `read` does and if the file cannot
    be written, and whatever `edit` raises.
    """
    try:
        with path.with_name(f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            changed, result = edit(read(path) if path.exists() else Grants())
            _replace(path, changed)
            return result
    except OSError as error:
        raise SettingsError(f"SAYSO_KEYS: cannot write {path}: {error.strerror}") from error


def _replace(path: Path, grants: Grants) -> None:
    file, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(file, "w") as temporary:
            temporary.write(grants.model_dump_json(indent=2) + "\n")
            temporary.flush()
            os.fsync(file)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _describe(error: ValidationError) -> str:
    """The first problem and its place, without the value, which might be a pasted secret."""
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
