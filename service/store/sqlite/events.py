"""Events in SQLite: a row for each, and a counter that outlives them.

An append survives the death of the server, but is not waited for until it is on the disk: that
would make each verification a fifth slower. A power cut may lose those of the last moments.
"""

import sqlite3
from collections.abc import Sequence

from service.store.events import EventPage, Horizon, StoredEvent, open_page, seal_events
from service.store.sealed import RecordCodec
from service.store.sqlite.connection import transaction, without_sync
from service.store.sqlite.groups import Run

SCHEMA: tuple[str, ...] = (
    """
    CREATE TABLE event_count (
        tenant TEXT NOT NULL PRIMARY KEY,
        last INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE event (
        tenant TEXT NOT NULL,
        number INTEGER NOT NULL,
        at REAL NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (tenant, number)
    ) STRICT
    """,
    "CREATE INDEX event_by_age ON event (tenant, at)",
)

_LAST = "SELECT last FROM event_count WHERE tenant = ?"
_COUNT = """
    INSERT INTO event_count (tenant, last) VALUES (?1, ?2)
    ON CONFLICT DO UPDATE SET last = last + ?2 RETURNING last
"""
_APPEND = "INSERT INTO event (tenant, number, at, record) VALUES (?, ?, ?, ?)"
_TRIM = "DELETE FROM event WHERE tenant = ? AND (number <= ? OR at < ?)"
_READ = """
    SELECT number, at, record FROM event WHERE tenant = ? AND number > ? ORDER BY number LIMIT ?
"""


class SqliteEvents:
    """`Events` on SQLite; `write` is of the connection that writes."""

    def __init__(self, codec: RecordCodec, *, read: Run, write: Run) -> None:
        self._codec = codec
        self._read = read
        self._write = write

    async def append(
        self, tenant: str, records: Sequence[bytes], *, at: float, horizon: Horizon
    ) -> None:
        sealed = await seal_events(self._codec, tenant, records, at=at)

        def append(db: sqlite3.Connection) -> None:
            with without_sync(db), transaction(db):
                insert(db)

        def insert(db: sqlite3.Connection) -> None:
            (last,) = db.execute(_COUNT, (tenant, len(sealed))).fetchone()
            numbers = range(last - len(sealed) + 1, last + 1)
            rows = zip(numbers, sealed, strict=True)
            db.executemany(_APPEND, [(tenant, number, at, record) for number, record in rows])
            db.execute(_TRIM, (tenant, last - horizon.most, horizon.oldest_at))

        await self._write(append)

    async def read(self, tenant: str, *, after: int, limit: int) -> EventPage:
        def read(db: sqlite3.Connection) -> tuple[list[StoredEvent], int]:
            last = db.execute(_LAST, (tenant,)).fetchone()
            rows = db.execute(_READ, (tenant, after, limit)).fetchall()
            return [StoredEvent(*row) for row in rows], last[0] if last else 0

        stored, last = await self._read(read)
        return await open_page(self._codec, tenant, stored, last=last)
