"""Announced calls in SQLite: a row for each, which the next announcement removes once expired."""

import sqlite3

from service.store.calls import AnnouncedCall
from service.store.sqlite.groups import Run

SCHEMA: tuple[str, ...] = (
    """
    CREATE TABLE announced_call (
        tenant TEXT NOT NULL,
        call_id TEXT NOT NULL,
        expires_at REAL NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (tenant, call_id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX announced_call_by_end ON announced_call (expires_at)",
)

_EXPIRE = "DELETE FROM announced_call WHERE expires_at <= ?"
_PUT = """
    INSERT INTO announced_call (tenant, call_id, expires_at, record) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET expires_at = excluded.expires_at, record = excluded.record
"""
_TAKE = "DELETE FROM announced_call WHERE tenant = ? AND call_id = ? RETURNING record"


class SqliteCalls:
    """`Calls` on SQLite; `write` wraps its work in a transaction."""

    def __init__(self, *, write: Run) -> None:
        self._write = write

    async def announce(self, tenant: str, call: AnnouncedCall, *, at: float) -> None:
        def announce(db: sqlite3.Connection) -> None:
            db.execute(_EXPIRE, (at,))
            db.execute(_PUT, (tenant, call.call_id, call.expires_at, call.encode()))

        await self._write(announce)

    async def take(self, tenant: str, call_id: str, *, at: float) -> AnnouncedCall | None:
        row = await self._write(lambda db: db.execute(_TAKE, (tenant, call_id)).fetchone())
        if row is None:
            return None
        call = AnnouncedCall.decode(call_id, row[0])
        return call if at < call.expires_at else None
