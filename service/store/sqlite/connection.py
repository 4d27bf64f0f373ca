"""One SQLite connection, on a thread of its own, that answers only while the file at its path is
the one that it opened.

A file that is deleted or replaced under a server would take every later write along with it. The
connection is then closed for good. The write-ahead log is emptied into the old file first: SQLite
leaves that of a file that was moved, and would read its pages into whatever has the old name.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from service.errors import Unavailable
from service.inference.threads import Threads

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class Connection:
    """Its errors are Unavailable."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._thread = Threads(1, name=name)
        self._database: sqlite3.Connection | None = None
        self._opened = False
        self._identity: tuple[int, int] | None = None

    async def open(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._database = await self._thread.run(connect)
        self._opened = True
        self._identity = _identity(self._path)

    async def run(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Raises Unavailable also where the file is replaced while `work` is done: it is then not
        known whether a write is in the new one."""
        assert self._opened, "a store is used inside `async with`"
        try:
            return await self._thread.run(self._guarded, work)
        except sqlite3.DatabaseError as error:
            raise Unavailable(f"the store failed: {error}") from error

    async def close(self) -> None:
        if self._database is not None:
            await self._thread.run(self._close)
        self._thread.close()

    def _guarded(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        self._require_same_file()
        assert self._database is not None, "the file is the one that was opened"
        result = work(self._database)
        self._require_same_file()
        return result

    def _require_same_file(self) -> None:
        try:
            found = _identity(self._path)
        except OSError as error:
            raise Unavailable(f"the store's file cannot be looked at: {error.strerror}") from error
        if self._database is not None and found == self._identity:
            return
        if self._database is not None:
            log.error(
                "%s is no longer the file that this server opened: it serves no more", self._path
            )
            with contextlib.suppress(sqlite3.Error):
                emptied_log(self._database, wait_s=0.0)
            self._close()
        what = "deleted" if found is None else "replaced"
        raise Unavailable(
            f"the store's file was {what} while the server ran, so nothing is read or written: "
            "put it back if it was moved, and restart the server"
        )

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()


def emptied_log(database: sqlite3.Connection, *, wait_s: float) -> bool:
    """Whether nothing is left in the write-ahead log: False while another process reads the file,
    after `wait_s` of waiting for it."""
    database.execute(f"PRAGMA busy_timeout = {round(wait_s * 1000)}")
    busy, *_ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; None where there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
