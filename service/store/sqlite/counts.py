"""How many speakers each tenant has in SQLite: kept by triggers, as counting a million rows at
every enrolment would take too long."""

import sqlite3

SCHEMA: tuple[str, ...] = (
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


def count(database: sqlite3.Connection, tenant: str) -> int:
    row = database.execute(
        "SELECT speakers FROM tenant_count WHERE tenant = ?", (tenant,)
    ).fetchone()
    return 0 if row is None else int(row[0])
