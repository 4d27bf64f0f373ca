"""Wrapped keys of tenants in SQLite. Of an erased tenant the last version stays, empty."""

import sqlite3

from service.sealing import KeySet
from service.store.sqlite.groups import Run
from service.store.sqlite.tenants import count_speakers

SCHEMA: tuple[str, ...] = (
    """
    CREATE TABLE tenant_key (
        tenant TEXT NOT NULL,
        version INTEGER NOT NULL,
        wrapped BLOB NOT NULL,
        PRIMARY KEY (tenant, version)
    ) STRICT, WITHOUT ROWID
    """,
)

_LAST = "SELECT version, wrapped FROM tenant_key WHERE tenant = ? ORDER BY version DESC LIMIT 1"


class SqliteKeys:
    """`KeyTable` on SQLite; `write` wraps its work in a transaction."""

    def __init__(self, *, read: Run, write: Run) -> None:
        self._read = read
        self._write = write

    async def read(self, tenant: str) -> KeySet:
        rows = await self._read(
            lambda db: db.execute(
                "SELECT version, wrapped FROM tenant_key WHERE tenant = ?", (tenant,)
            ).fetchall()
        )
        current = max((version for version, _ in rows), default=0)
        return KeySet(current, {version: wrapped for version, wrapped in rows if wrapped})

    async def add(
        self, tenant: str, version: int, wrapped: bytes, *, if_empty: bool = False
    ) -> bool:
        def add(db: sqlite3.Connection) -> bool:
            if if_empty and count_speakers(db, tenant):
                return False
            last = db.execute(_LAST, (tenant,)).fetchone()
            if version != (last[0] if last else 0) + 1:
                return False
            db.execute("DELETE FROM tenant_key WHERE tenant = ? AND wrapped = x''", (tenant,))
            db.execute("INSERT INTO tenant_key VALUES (?, ?, ?)", (tenant, version, wrapped))
            return True

        return await self._write(add)

    async def replace(self, tenant: str, version: int, wrapped: bytes, *, expected: bytes) -> bool:
        def replace(db: sqlite3.Connection) -> bool:
            updated = db.execute(
                "UPDATE tenant_key SET wrapped = ? WHERE tenant = ? AND version = ?"
                " AND wrapped = ?",
                (wrapped, tenant, version, expected),
            )
            return updated.rowcount == 1

        return await self._write(replace)

    async def retire(self, tenant: str, *, before: int) -> None:
        await self._write(
            lambda db: db.execute(
                "DELETE FROM tenant_key WHERE tenant = ? AND version < ?", (tenant, before)
            )
        )

    async def erase(self, tenant: str) -> None:
        def erase(db: sqlite3.Connection) -> None:
            last = db.execute(_LAST, (tenant,)).fetchone()
            db.execute("DELETE FROM tenant_key WHERE tenant = ?", (tenant,))
            if last:
                db.execute("INSERT INTO tenant_key VALUES (?, ?, x'')", (tenant, last[0]))

        await self._write(erase)


def read_current_version(db: sqlite3.Connection, tenant: str) -> int | None:
    """The version of the key that seals the tenant's records; 0 before there is one, None once it
    is erased."""
    last = db.execute(_LAST, (tenant,)).fetchone()
    if last is None:
        return 0
    return int(last[0]) if last[1] else None
