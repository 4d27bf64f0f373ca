"""The embedded store: one SQLite file in WAL mode, several servers on it if need be.

A write is on the disk (`synchronous=FULL`) when its call returns. Writes go through one
connection and reads through another, each on a thread of its own, so the event loop never waits
for a disk. Deleted content is overwritten with zeros (`secure_delete`).
"""

import asyncio
import contextlib
import itertools
import json
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from service.errors import Aborted, StoreError, Unavailable
from service.store import sqlite_groups
from service.store.records import (
    Page,
    Speaker,
    decode_speaker,
    encode_history,
    encode_profile,
    encode_voiceprint,
)

_Result = TypeVar("_Result")

_APPLICATION_ID = int.from_bytes(b"SaYs")
_USE_RESOLUTION_S = 60.0

# One tuple of statements for each schema version; `user_version` counts those applied.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE speaker (
            tenant TEXT NOT NULL,
            speaker_id TEXT NOT NULL,
            etag TEXT NOT NULL,
            profile BLOB NOT NULL,
            PRIMARY KEY (tenant, speaker_id)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE voiceprint (
            tenant TEXT NOT NULL,
            speaker_id TEXT NOT NULL,
            model_id TEXT NOT NULL,
            used_at REAL,
            record BLOB NOT NULL,
            PRIMARY KEY (tenant, speaker_id, model_id),
            FOREIGN KEY (tenant, speaker_id) REFERENCES speaker ON DELETE CASCADE
        ) STRICT
        """,
    ),
    ("ALTER TABLE speaker ADD COLUMN history BLOB NOT NULL DEFAULT x''",),
    sqlite_groups.SCHEMA,
)

_SELECT = """
    SELECT s.speaker_id, s.etag, s.profile, s.history, v.model_id, v.record, v.used_at
    FROM (SELECT * FROM speaker WHERE tenant = ? AND {}) AS s
    LEFT JOIN voiceprint AS v USING (tenant, speaker_id)
    ORDER BY s.speaker_id, v.model_id
"""
_SELECT_ONE = _SELECT.format("speaker_id = ?")
_SELECT_MANY = _SELECT.format("speaker_id IN (SELECT value FROM json_each(?))")
_SELECT_PAGE = _SELECT.format("speaker_id > ? ORDER BY speaker_id LIMIT ?")


class SqliteStore:
    """`Store` in the file at `path`; a write waits `timeout_s` for other processes' writes."""

    def __init__(self, path: Path, *, timeout_s: float = 1.0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._writer = _Connection("store-writer")
        self._reader = _Connection("store-reader")
        self.groups = sqlite_groups.SqliteGroups(read=self._reader.run, write=self._write)

    @classmethod
    def from_url(cls, url: str, timeout_s: float = 1.0) -> Self:
        """`sqlite:///relative.db` or `sqlite:////absolute.db`; raises StoreError."""
        _, separator, path = url.partition("sqlite:///")
        if not separator or path in ("", ":memory:"):
            raise StoreError(
                "a SQLite store is sqlite:///relative.db or sqlite:////absolute.db, "
                "a file that outlives the server"
            )
        return cls(Path(path), timeout_s=timeout_s)

    async def __aenter__(self) -> Self:
        try:
            await self._writer.open(partial(_open_writer, self._path, self._timeout_s))
            await self._reader.open(partial(_open_reader, self._path, self._timeout_s))
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._reader.close()
        await self._writer.close()

    async def ping(self) -> None:
        await self._reader.run(lambda db: db.execute("SELECT 1 FROM speaker LIMIT 1").fetchall())

    async def get(self, tenant: str, speaker_id: str) -> Speaker | None:
        rows = await self._reader.run(
            lambda db: db.execute(_SELECT_ONE, (tenant, speaker_id)).fetchall()
        )
        return next(_speakers(tenant, rows), None)

    async def get_many(self, tenant: str, speaker_ids: Sequence[str]) -> Sequence[Speaker]:
        asked = json.dumps(list(speaker_ids))
        return await self._reader.run(
            lambda db: list(_speakers(tenant, db.execute(_SELECT_MANY, (tenant, asked))))
        )

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> Page:
        rows = await self._reader.run(
            lambda db: db.execute(_SELECT_PAGE, (tenant, after or "", limit)).fetchall()
        )
        speakers = tuple(_speakers(tenant, rows))
        return Page(speakers, speakers[-1].speaker_id if len(speakers) == limit else None)

    async def put(self, speaker: Speaker, *, expected_etag: str | None) -> Speaker:
        stored = replace(speaker, etag=secrets.token_hex(8))
        await self._writer.run(lambda db: _put(db, stored, expected_etag))
        return stored

    async def delete(
        self, tenant: str, speaker_id: str, *, expected_etag: str | None = None
    ) -> bool:
        return await self._writer.run(lambda db: _delete(db, tenant, speaker_id, expected_etag))

    async def touch(self, tenant: str, speaker_id: str, model_id: str, *, at: float) -> None:
        await self._writer.run(
            lambda db: db.execute(
                "UPDATE voiceprint SET used_at = ? WHERE tenant = ? AND speaker_id = ?"
                " AND model_id = ? AND (used_at IS NULL OR used_at <= ?)",
                (at, tenant, speaker_id, model_id, at - _USE_RESOLUTION_S),
            )
        )

    async def _write(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        def transact(database: sqlite3.Connection) -> _Result:
            with _transaction(database):
                return work(database)

        return await self._writer.run(transact)


class _Connection:
    """One SQLite connection on a thread of its own; its errors are Unavailable."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._database: sqlite3.Connection | None = None

    async def open(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._database = await asyncio.get_running_loop().run_in_executor(self._thread, connect)

    async def run(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        database = self._database
        assert database is not None, "a store is used inside `async with`"
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, work, database)
        except sqlite3.DatabaseError as error:
            raise Unavailable(f"the store failed: {error}") from error

    async def close(self) -> None:
        if self._database is not None:
            await self.run(lambda database: database.close())
            self._database = None
        self._thread.shutdown()


def _put(database: sqlite3.Connection, speaker: Speaker, expected_etag: str | None) -> None:
    key = (speaker.tenant, speaker.speaker_id)
    with _transaction(database):
        if _etag(database, *key) != expected_etag:
            raise Aborted("the speaker changed since it was read: read it again and retry")
        database.execute(
            "INSERT INTO speaker VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET etag = excluded.etag, profile = excluded.profile, history = excluded.history",
            (*key, speaker.etag, encode_profile(speaker), encode_history(speaker.history)),
        )
        database.execute(
            "DELETE FROM voiceprint WHERE tenant = ? AND speaker_id = ?"
            " AND model_id NOT IN (SELECT value FROM json_each(?))",
            (*key, json.dumps(list(speaker.voiceprints))),
        )
        database.executemany(
            "INSERT INTO voiceprint VALUES (?, ?, ?, ?, ?) ON CONFLICT"
            " DO UPDATE SET record = excluded.record",
            [
                (*key, voiceprint.model_id, voiceprint.used_at, encode_voiceprint(voiceprint))
                for voiceprint in speaker.voiceprints.values()
            ],
        )


def _delete(
    database: sqlite3.Connection, tenant: str, speaker_id: str, expected_etag: str | None
) -> bool:
    with _transaction(database):
        etag = _etag(database, tenant, speaker_id)
        if etag is None:
            return False
        if expected_etag not in (None, etag):
            raise Aborted("the speaker changed since it was read: read it again and retry")
        database.execute(
            "DELETE FROM speaker WHERE tenant = ? AND speaker_id = ?", (tenant, speaker_id)
        )
        return True


def _etag(database: sqlite3.Connection, tenant: str, speaker_id: str) -> str | None:
    row = database.execute(
        "SELECT etag FROM speaker WHERE tenant = ? AND speaker_id = ?", (tenant, speaker_id)
    ).fetchone()
    return row and str(row[0])


def _speakers(tenant: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[Speaker]:
    for (speaker_id, etag, profile, history), group in itertools.groupby(
        rows, key=lambda row: row[:4]
    ):
        yield decode_speaker(
            tenant,
            speaker_id,
            etag=etag,
            profile=profile,
            history=history,
            voiceprints=(row[4:] for row in group if row[4] is not None),
        )


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _open_writer(path: Path, timeout_s: float) -> sqlite3.Connection:
    if not path.parent.is_dir():
        raise StoreError(f"the store's folder {path.parent} does not exist: create it")
    try:
        if not path.exists():
            path.touch(mode=0o600)
        _inspect(path, timeout_s)
        return _configured(path, timeout_s)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path} cannot be opened as a store: {error}") from error


def _open_reader(path: Path, timeout_s: float) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
    database.execute("PRAGMA query_only = ON")
    return database


def _inspect(path: Path, timeout_s: float) -> None:
    """Refuse what is not a sound store of a known schema, without writing to it."""
    address = f"file:{quote(str(path))}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, timeout=timeout_s, uri=True)) as database:
        if not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            return
        if _pragma(database, "application_id") != _APPLICATION_ID:
            raise StoreError(f"{path} is the SQLite database of another application")
        version = _pragma(database, "user_version")
        if version > len(_MIGRATIONS):
            raise StoreError(
                f"{path} has schema {version}, and this server reads up to {len(_MIGRATIONS)}: "
                "upgrade the server"
            )
        if (damage := _pragma(database, "quick_check(1)")) != "ok":
            raise StoreError(f"{path} is damaged ({damage}): restore it from a backup")


def _configured(path: Path, timeout_s: float) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
    try:
        if _pragma(database, "journal_mode = WAL") != "wal":
            raise StoreError(f"{path} is on a file system without the shared memory that WAL needs")
        for setting in ("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            database.execute(f"PRAGMA {setting}")
        if _pragma(database, "user_version") < len(_MIGRATIONS):
            _migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def _migrate(database: sqlite3.Connection) -> None:
    with _transaction(database):
        for statements in _MIGRATIONS[_pragma(database, "user_version") :]:
            for statement in statements:
                database.execute(statement)
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


def _pragma(database: sqlite3.Connection, text: str) -> Any:
    row = database.execute(f"PRAGMA {text}").fetchone()
    return row[0]
