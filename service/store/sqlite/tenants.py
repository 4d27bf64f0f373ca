"""What SQLite keeps of each tenant: how many speakers it has, when it was last swept for expired
voices, and which of its speakers opted out."""

import sqlite3

from service.store.records import hash_subject

COUNT_SCHEMA: tuple[str, ...] = (
    """
    CREATE TABLE tenant_count (
        tenant TEXT PRIMARY KEY NOT NULL,
        speakers INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "INSERT INTO tenant_count SELECT tenant, count(*) FROM speaker GROUP BY tenant",
    """
    CREATE TRIGGER speaker_came AFTER INSERT ON speaker BEGIN
        INSERT INTO tenant_count VALUES (NEW.tenant, 1)
        ON CONFLICT DO UPDATE SET speakers = speakers + 1;
    END
    """,
    """
    CREATE TRIGGER speaker_went AFTER DELETE ON speaker BEGIN
        UPDATE tenant_count SET speakers = speakers - 1 WHERE tenant = OLD.tenant;
    END
    """,
)
"""Triggers keep the count, because counting a million rows at every enrollment takes too long."""

SCHEMA: tuple[str, ...] = (
    """
    CREATE TABLE sweep (
        tenant TEXT PRIMARY KEY NOT NULL,
        at REAL NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE opt_out (
        tenant TEXT NOT NULL,
        subject BLOB NOT NULL,
        etag TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (tenant, subject)
    ) STRICT, WITHOUT ROWID
    """,
)

_COUNT = "SELECT speakers FROM tenant_count WHERE tenant = ?"
_OPT_OUT = "SELECT etag, at FROM opt_out WHERE tenant = ? AND subject = ?"


def count_speakers(db: sqlite3.Connection, tenant: str) -> int:
    row = db.execute(_COUNT, (tenant,)).fetchone()
    return 0 if row is None else int(row[0])


def read_sweep(db: sqlite3.Connection, tenant: str) -> float | None:
    """When the tenant was last swept."""
    row = db.execute("SELECT at FROM sweep WHERE tenant = ?", (tenant,)).fetchone()
    return row and float(row[0])


def note_sweep(db: sqlite3.Connection, tenant: str, at: float) -> None:
    db.execute(
        "INSERT INTO sweep VALUES (?, ?) ON CONFLICT DO UPDATE SET at = excluded.at", (tenant, at)
    )


def read_opt_out(db: sqlite3.Connection, tenant: str, speaker_id: str) -> tuple[str, float] | None:
    """The etag of the record by which the speaker opted out, and when that was."""
    row: tuple[str, float] | None = db.execute(
        _OPT_OUT, (tenant, hash_subject(tenant, speaker_id))
    ).fetchone()
    return row


def note_opt_out(
    db: sqlite3.Connection, tenant: str, speaker_id: str, etag: str, at: float | None
) -> None:
    """Remember an opt-out; forget it if `at` is None, because the speaker opted in again."""
    key = (tenant, hash_subject(tenant, speaker_id))
    if at is None:
        db.execute("DELETE FROM opt_out WHERE tenant = ? AND subject = ?", key)
        return
    db.execute(
        "INSERT INTO opt_out VALUES (?, ?, ?, ?) ON CONFLICT"
        " DO UPDATE SET etag = excluded.etag, at = excluded.at",
        (*key, etag, at),
    )
