"""One SQLite connection, on a thread of its own, that serves only while its path still names the
file that it opened.

If the file is deleted or replaced while the server runs, every later write would go to the old
file and be lost, so the connection is closed for good. The write-ahead log is emptied into the old
file first: SQLite leaves the log of a moved file behind, and would replay its pages into any new
file of the same name.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from service.errors import Unavailable
from service.inference.threads import Threads

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class Connection:
    """Runs work on one database; failures of SQLite raise Unavailable."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._thread = Threads(1, name=name)
        self._database: sqlite3.Connection | None = None
        self._opened = False
        self._identity: tuple[int, int] | None = None

    async def open(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Keep what `connect` returns. If this is cancelled, `close` still has to be called."""
        self._opened = True
        await self._thread.run(self._connect, connect)

    async def run(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Run `work` on the database.

        Raises Unavailable also if the file is replaced meanwhile: it is then not known whether a
        write is in the new one.
        """
        assert self._opened, "a store is used inside `async with`"
        try:
            return await self._thread.run(self._run_guarded, work)
        except sqlite3.DatabaseError as error:
            raise Unavailable(f"the store failed: {error}") from error

    async def close(self) -> None:
        """Close the database, once the work in progress is done, even if this is cancelled."""
        if not self._opened:
            return
        self._opened = False
        closing = self._thread.run(self._close)  # also after an `open` that was cancelled
        self._thread.close()
        await asyncio.shield(closing)

    def _connect(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._database = connect()
        self._identity = _identify(self._path)

    def _run_guarded(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        self._require_same_file()
        assert self._database is not None, "the file is the one that was opened"
        result = work(self._database)
        self._require_same_file()
        return result

    def _require_same_file(self) -> None:
        try:
            identity = _identify(self._path)
        except OSError as error:
            raise Unavailable(f"the store's file cannot be looked at: {error.strerror}") from error
        if self._database is not None and identity == self._identity:
            return
        if self._database is not None:
            log.error(
                "%s is no longer the file that this server opened: it serves no more", self._path
            )
            with contextlib.suppress(sqlite3.Error):
                empty_log(self._database, wait_s=0.0)
            self._close()
        what = "deleted" if identity is None else "replaced"
        raise Unavailable(
            f"the store's file was {what} while the server ran, so nothing is read or written: "
            "put it back if it was moved, and restart the server"
        )

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()


def empty_log(database: sqlite3.Connection, *, wait_s: float) -> bool:
    """Move the write-ahead log into the file.

    Returns False if another process still reads the file after `wait_s`, so that some of the log
    is left.
    """
    database.execute(f"PRAGMA busy_timeout = {round(wait_s * 1000)}")
    busy, *_ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _identify(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def without_sync(database: sqlite3.Connection) -> Iterator[None]:
    """Commit without waiting for the disk, as `synchronous = NORMAL` does in WAL mode."""
    database.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        database.execute("PRAGMA synchronous = FULL")
