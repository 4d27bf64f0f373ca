"""What SQLite keeps of a tenant besides its speakers: when it was last swept, and who opted out."""

import sqlite3

from service.store.records import subject

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

_OPT_OUT = "SELECT etag, at FROM opt_out WHERE tenant = ? AND subject = ?"


def swept_at(db: sqlite3.Connection, tenant: str) -> float | None:
    row = db.execute("SELECT at FROM sweep WHERE tenant = ?", (tenant,)).fetchone()
    return row and float(row[0])


def note_sweep(db: sqlite3.Connection, tenant: str, at: float) -> None:
    db.execute(
        "INSERT INTO sweep VALUES (?, ?) ON CONFLICT DO UPDATE SET at = excluded.at", (tenant, at)
    )


def opt_out(db: sqlite3.Connection, tenant: str, speaker_id: str) -> tuple[str, float] | None:
    """The etag of the record that said so, and when that was."""
    found: tuple[str, float] | None = db.execute(
        _OPT_OUT, (tenant, subject(tenant, speaker_id))
    ).fetchone()
    return found


def note_opt_out(
    db: sqlite3.Connection, tenant: str, speaker_id: str, etag: str, at: float | None
) -> None:
    """Forgets it where `at` is None: the speaker opted in again."""
    key = (tenant, subject(tenant, speaker_id))
    if at is None:
        db.execute("DELETE FROM opt_out WHERE tenant = ? AND subject = ?", key)
        return
    db.execute(
        "INSERT INTO opt_out VALUES (?, ?, ?, ?) ON CONFLICT"
        " DO UPDATE SET etag = excluded.etag, at = excluded.at",
        (*key, etag, at),
    )
