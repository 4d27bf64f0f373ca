"""The key file: grants as JSON, readable by its owner only, changed as a whole.

A change is written beside the file, made durable and renamed over it, under a lock: no reader and
no second writer sees half of it.
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
from service.secret_file import secret_bytes

T = TypeVar("T")


def read(path: Path) -> Grants:
    """Raises `SettingsError` where there is no such file, it is of another kind, or others may
    read it."""
    try:
        return Grants.model_validate_json(secret_bytes(path))
    except OSError as error:
        raise SettingsError(
            f"SAYSO_KEYS: cannot read {path}: {error.strerror}; `sayso keys create` makes one"
        ) from error
    except ValidationError as error:
        raise SettingsError(f"SAYSO_KEYS: {path} is no key file: {_first(error)}") from error


def change(path: Path, edit: Callable[[Grants], tuple[Grants, T]]) -> T:
    """Replaces the file by what `edit` makes of it, of no grants where there is none yet, and
    returns what else `edit` does.

    Raises `SettingsError` as `read` does, and where it cannot be written; `edit` may raise.
    """
    try:
        with path.with_name(f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            changed, made = edit(read(path) if path.exists() else Grants())
            _replace(path, changed)
            return made
    except OSError as error:
        raise SettingsError(f"SAYSO_KEYS: cannot write {path}: {error.strerror}") from error


def _replace(path: Path, grants: Grants) -> None:
    """`mkstemp` gives the mode 0600."""
    file, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(file, "w") as beside:
            beside.write(grants.model_dump_json(indent=2) + "\n")
            beside.flush()
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


def _first(error: ValidationError) -> str:
    """What is wrong and where; not the value, which might be a secret pasted there."""
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
