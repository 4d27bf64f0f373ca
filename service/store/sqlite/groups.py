"""Groups in SQLite. Triggers count versions, so that every write to a speaker does."""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from service.store.groups import (
    DEPARTURES,
    MAX_GROUPS,
    MAX_MEMBERS,
    Changes,
    Group,
    GroupPage,
    Member,
    MemberPage,
    Revision,
    group_exists,
    must_restart,
    no_such_group,
    too_many_groups,
    too_many_members,
    unknown_speakers,
)

_Result = TypeVar("_Result")

SCHEMA: tuple[str, ...] = (
    """
    CREATE TABLE speaker_group (
        group_id INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        created_at REAL NOT NULL,
        members INTEGER NOT NULL DEFAULT 0,
        version INTEGER NOT NULL DEFAULT 0,
        UNIQUE (tenant, name)
    ) STRICT
    """,
    """
    CREATE TABLE member (
        slot INTEGER PRIMARY KEY AUTOINCREMENT,
        group_id INTEGER NOT NULL REFERENCES speaker_group ON DELETE CASCADE,
        tenant TEXT NOT NULL,
        speaker_id TEXT NOT NULL,
        version INTEGER NOT NULL DEFAULT 0,
        UNIQUE (group_id, speaker_id),
        FOREIGN KEY (tenant, speaker_id) REFERENCES speaker ON DELETE CASCADE
    ) STRICT
    """,
    "CREATE INDEX member_by_version ON member (group_id, version)",
    "CREATE INDEX member_by_speaker ON member (tenant, speaker_id)",
    """
    CREATE TABLE departure (
        group_id INTEGER NOT NULL REFERENCES speaker_group ON DELETE CASCADE,
        version INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        PRIMARY KEY (group_id, version)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TRIGGER member_joined AFTER INSERT ON member BEGIN
        UPDATE speaker_group SET members = members + 1, version = version + 1
        WHERE group_id = NEW.group_id;
        UPDATE member
        SET version = (SELECT version FROM speaker_group WHERE group_id = NEW.group_id)
        WHERE slot = NEW.slot;
    END
    """,
    f"""
    CREATE TRIGGER member_left AFTER DELETE ON member BEGIN
        UPDATE speaker_group SET members = members - 1, version = version + 1
        WHERE group_id = OLD.group_id;
        INSERT INTO departure SELECT group_id, version, OLD.slot FROM speaker_group
        WHERE group_id = OLD.group_id;
        DELETE FROM departure WHERE group_id = OLD.group_id AND version <=
            (SELECT version FROM speaker_group WHERE group_id = OLD.group_id) - {DEPARTURES};
    END
    """,  # noqa: S608 - a number of ours
    """
    CREATE TRIGGER member_changed AFTER UPDATE ON speaker BEGIN
        UPDATE speaker_group SET version = version + 1 WHERE group_id IN
            (SELECT group_id FROM member
             WHERE tenant = NEW.tenant AND speaker_id = NEW.speaker_id);
        UPDATE member SET version =
            (SELECT g.version FROM speaker_group AS g WHERE g.group_id = member.group_id)
        WHERE tenant = NEW.tenant AND speaker_id = NEW.speaker_id;
    END
    """,
)

_GROUP = "SELECT name, description, created_at, members FROM speaker_group WHERE tenant = ? AND "
_OF = """
    SELECT name FROM speaker_group JOIN member USING (group_id)
    WHERE member.tenant = ? AND speaker_id = ? ORDER BY name
"""
_CHANGES = """
    SELECT version, slot, speaker_id FROM member WHERE group_id = ?1 AND version > ?2
    UNION ALL
    SELECT version, slot, NULL FROM departure WHERE group_id = ?1 AND version > ?2
    ORDER BY version LIMIT ?3
"""
_UNKNOWN = """
    SELECT count(DISTINCT value) FROM json_each(?) WHERE NOT EXISTS
        (SELECT 1 FROM speaker WHERE tenant = ? AND speaker_id = value)
"""


class Run(Protocol):
    """Runs work on a connection, off the event loop."""

    def __call__(self, work: Callable[[sqlite3.Connection], _Result]) -> Awaitable[_Result]: ...


class SqliteGroups:
    """`Groups` on SQLite; `write` wraps its work in a transaction."""

    def __init__(self, *, read: Run, write: Run) -> None:
        self._read = read
        self._write = write

    async def create(self, tenant: str, group: Group) -> None:
        await self._write(lambda db: _create(db, tenant, group))

    async def get(self, tenant: str, name: str) -> Group:
        return await self._read(lambda db: _get(db, tenant, name))

    async def describe(self, tenant: str, name: str, description: str) -> Group:
        def describe(db: sqlite3.Connection) -> Group:
            db.execute(
                "UPDATE speaker_group SET description = ? WHERE tenant = ? AND name = ?",
                (description, tenant, name),
            )
            return _get(db, tenant, name)

        return await self._write(describe)

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> GroupPage:
        query = _GROUP + "name > ? ORDER BY name LIMIT ?"
        rows = await self._read(
            lambda db: db.execute(query, (tenant, after or "", limit)).fetchall()
        )
        groups = tuple(Group(*row) for row in rows)
        return GroupPage(groups, groups[-1].name if len(groups) == limit else None)

    async def delete(self, tenant: str, name: str) -> None:
        def delete(db: sqlite3.Connection) -> None:
            group_id, _ = _read_revision(db, tenant, name)
            db.execute("DELETE FROM speaker_group WHERE group_id = ?", (group_id,))

        await self._write(delete)

    async def add(self, tenant: str, name: str, speaker_ids: Sequence[str]) -> Group:
        return await self._write(lambda db: _add(db, tenant, name, speaker_ids))

    async def remove(self, tenant: str, name: str, speaker_ids: Sequence[str]) -> Group:
        def remove(db: sqlite3.Connection) -> Group:
            group_id, _ = _read_revision(db, tenant, name)
            db.execute(
                "DELETE FROM member WHERE group_id = ?"
                " AND speaker_id IN (SELECT value FROM json_each(?))",
                (group_id, json.dumps(list(speaker_ids))),
            )
            return _get(db, tenant, name)

        return await self._write(remove)

    async def members(
        self, tenant: str, name: str, *, limit: int, after: str | None = None
    ) -> MemberPage:
        def members(db: sqlite3.Connection) -> MemberPage:
            group_id, _ = _read_revision(db, tenant, name)
            rows = db.execute(
                "SELECT speaker_id FROM member WHERE group_id = ? AND speaker_id > ?"
                " ORDER BY speaker_id LIMIT ?",
                (group_id, after or "", limit),
            ).fetchall()
            speaker_ids = tuple(row[0] for row in rows)
            return MemberPage(speaker_ids, speaker_ids[-1] if len(rows) == limit else None)

        return await self._read(members)

    async def of(self, tenant: str, speaker_id: str) -> Sequence[str]:
        rows = await self._read(lambda db: db.execute(_OF, (tenant, speaker_id)).fetchall())
        return [row[0] for row in rows]

    async def changes(
        self, tenant: str, name: str, *, since: Revision | None, limit: int
    ) -> Changes:
        return await self._read(lambda db: _changes(db, tenant, name, since, limit))


def _create(db: sqlite3.Connection, tenant: str, group: Group) -> None:
    """Raise AlreadyExists or FailedPrecondition before it writes anything."""
    names = db.execute(
        "SELECT count(*), count(*) FILTER (WHERE name = ?) FROM speaker_group WHERE tenant = ?",
        (group.name, tenant),
    ).fetchone()
    if names[1]:
        raise group_exists()
    if names[0] >= MAX_GROUPS:
        raise too_many_groups()
    db.execute(
        "INSERT INTO speaker_group (tenant, name, description, created_at) VALUES (?, ?, ?, ?)",
        (tenant, group.name, group.description, group.created_at),
    )


def _get(db: sqlite3.Connection, tenant: str, name: str) -> Group:
    row = db.execute(_GROUP + "name = ?", (tenant, name)).fetchone()
    if row is None:
        raise no_such_group()
    return Group(*row)


def _read_revision(db: sqlite3.Connection, tenant: str, name: str) -> tuple[int, int]:
    """The id and version of a group; raises NotFound."""
    row = db.execute(
        "SELECT group_id, version FROM speaker_group WHERE tenant = ? AND name = ?",
        (tenant, name),
    ).fetchone()
    if row is None:
        raise no_such_group()
    return row[0], row[1]


def _add(db: sqlite3.Connection, tenant: str, name: str, speaker_ids: Sequence[str]) -> Group:
    group_id, _ = _read_revision(db, tenant, name)
    ids = json.dumps(list(speaker_ids))
    if unknown := db.execute(_UNKNOWN, (ids, tenant)).fetchone()[0]:
        raise unknown_speakers(unknown, len(set(speaker_ids)))
    db.execute(
        "INSERT INTO member (group_id, tenant, speaker_id)"
        " SELECT ?, ?, value FROM json_each(?) WHERE true ON CONFLICT DO NOTHING",
        (group_id, tenant, ids),
    )
    group = _get(db, tenant, name)
    if group.members > MAX_MEMBERS:
        raise too_many_members()
    return group


def _changes(
    db: sqlite3.Connection, tenant: str, name: str, since: Revision | None, limit: int
) -> Changes:
    """Read the version first and the changes after it, so that they include all that led to it."""
    group_id, version = _read_revision(db, tenant, name)
    restart = must_restart(since, Revision(str(group_id), version))
    start = 0 if restart or since is None else since.version
    rows = db.execute(_CHANGES, (group_id, start, limit)).fetchall()
    more = len(rows) == limit
    reached = rows[-1][0] if more else max([version, *(row[0] for row in rows[-1:])])
    return Changes(
        Revision(str(group_id), reached),
        restart,
        tuple(Member(slot, speaker_id) for _, slot, speaker_id in rows),
        more,
    )
