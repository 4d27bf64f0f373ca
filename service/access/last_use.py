"""When each key and certificate was last used, in a file beside the key file.

A server notes each use in memory and writes the times once a minute and when it ends: the key file
itself is changed by `sayso keys` only. Servers that share the file keep each other's times.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, TypeAdapter, ValidationError

log = logging.getLogger(__name__)

_WRITE_EVERY_S = 60.0
_FILE = TypeAdapter(dict[str, AwareDatetime])


def get_path(keys: Path) -> Path:
    """The file of last uses that belongs to a key file."""
    return keys.with_name(f"{keys.name}.uses")


def read(keys: Path) -> dict[str, datetime]:
    """Read the times by the entry's id; none if there is no such file, or if it is damaged."""
    with contextlib.suppress(OSError, ValidationError):
        return _FILE.validate_json(get_path(keys).read_bytes())
    return {}


def write(keys: Path, times: Mapping[str, datetime]) -> None:
    """Write the times to the file, over earlier ones of the same entries; raises OSError."""
    path = get_path(keys)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        latest = read(keys)
        for entry_id, at in times.items():
            latest[entry_id] = max(at, latest.get(entry_id, at))
        file, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(file, "wb") as temporary:
                temporary.write(_FILE.dump_json(latest, indent=2) + b"\n")
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise


class LastUses:
    """The uses that are not written yet. `note` is for the event loop's thread."""

    def __init__(self, keys: Path) -> None:
        self._keys = keys
        self._unwritten: dict[str, datetime] = {}
        self._failed = False

    def note(self, entry_id: str, at: datetime) -> None:
        self._unwritten[entry_id] = at

    @contextlib.asynccontextmanager
    async def keep_written(self, *, every_s: float = _WRITE_EVERY_S) -> AsyncIterator[None]:
        """Write what was noted every `every_s` seconds, and at the end."""
        writing = asyncio.create_task(self._write_regularly(every_s))
        try:
            yield
        finally:
            writing.cancel()
            await self._write()

    async def _write_regularly(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self._write()

    async def _write(self) -> None:
        """Write what was noted. A folder that cannot be written, such as a mounted secret, is
        logged once: no call fails for it."""
        noted, self._unwritten = self._unwritten, {}
        if not noted:
            return
        try:
            await asyncio.to_thread(write, self._keys, noted)
        except OSError as error:
            if not self._failed:
                path = get_path(self._keys)
                log.info("the last use of keys is not kept: %s: %s", path, error.strerror)
            self._failed = True
