"""Failed verifications in SQLite: one row for each speaker, changed in one transaction."""

import sqlite3

from service.store.failures import NO_FAILURES, FailureCount, Step
from service.store.sqlite.groups import Run

SCHEMA: tuple[str, ...] = (
    """
    CREATE TABLE failures (
        tenant TEXT NOT NULL,
        speaker_id TEXT NOT NULL,
        keep_until REAL NOT NULL,
        tally BLOB NOT NULL,
        PRIMARY KEY (tenant, speaker_id),
        FOREIGN KEY (tenant, speaker_id) REFERENCES speaker ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX failures_by_end ON failures (keep_until)",
)

UNBOUNDED_SCHEMA: tuple[str, ...] = (
    "DELETE FROM failures WHERE keep_until <= CAST(strftime('%s', 'now') AS REAL)",
    "DROP INDEX failures_by_end",
    "ALTER TABLE failures DROP COLUMN keep_until",
)
"""The migration after which failures count for ever, instead of within a window of time."""

_GET = "SELECT tally FROM failures WHERE tenant = ? AND speaker_id = ?"
_DELETE = "DELETE FROM failures WHERE tenant = ? AND speaker_id = ?"
_PUT = """
    INSERT INTO failures (tenant, speaker_id, tally) SELECT ?1, ?2, ?3 WHERE EXISTS
        (SELECT 1 FROM speaker WHERE tenant = ?1 AND speaker_id = ?2)
    ON CONFLICT DO UPDATE SET tally = excluded.tally
"""


class SqliteFailures:
    """`Failures` on SQLite; `write` wraps its work in a transaction."""

    def __init__(self, *, read: Run, write: Run) -> None:
        self._read = read
        self._write = write

    async def get(self, tenant: str, speaker_id: str) -> FailureCount:
        return await self._read(lambda db: read_count(db, tenant, speaker_id))

    async def change(self, tenant: str, speaker_id: str, step: Step) -> FailureCount:
        def change(db: sqlite3.Connection) -> FailureCount:
            count = step(read_count(db, tenant, speaker_id))
            if count == NO_FAILURES:
                db.execute(_DELETE, (tenant, speaker_id))
            else:
                db.execute(_PUT, (tenant, speaker_id, count.encode()))
            return count

        return await self._write(change)


def read_count(db: sqlite3.Connection, tenant: str, speaker_id: str) -> FailureCount:
    row = db.execute(_GET, (tenant, speaker_id)).fetchone()
    return FailureCount.decode(row and row[0])
