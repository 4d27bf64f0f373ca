"""The file of the embedded store: checks it, and migrates one of an earlier server.

    open ─> undamaged, ours, not of a newer server? ─> if older: copy it beside itself, then migrate

A copy is called voices.db.schema-3.20261122T235959Z.backup. It keeps voices that are erased later:
delete it once the new server has proved itself.
"""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from service.errors import StoreError
from service.store.sqlite import calls as sqlite_calls
from service.store.sqlite import events as sqlite_events
from service.store.sqlite import failures as sqlite_failures
from service.store.sqlite import groups as sqlite_groups
from service.store.sqlite import keys as sqlite_keys
from service.store.sqlite import tenants as sqlite_tenants
from service.store.sqlite.connection import transaction

log = logging.getLogger(__name__)

_APPLICATION_ID = int.from_bytes(b"SaYs")

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
    (*sqlite_tenants.COUNT_SCHEMA, *sqlite_failures.SCHEMA),
    sqlite_keys.SCHEMA,
    sqlite_failures.UNBOUNDED_SCHEMA,
    sqlite_tenants.SCHEMA,
    sqlite_calls.SCHEMA,
    sqlite_events.SCHEMA,
)


def open_writer(path: Path, timeout_s: float, clock: Callable[[], float]) -> sqlite3.Connection:
    """Open the file, creating or migrating it if need be; raises StoreError."""
    if not path.parent.is_dir():
        raise StoreError(f"the store's folder {path.parent} does not exist: create it")
    try:
        if not path.exists():
            path.touch(mode=0o600)
        _inspect(path, timeout_s)
        return _connect(path, timeout_s, clock)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path} cannot be opened as a store: {error}") from error


def open_reader(path: Path, timeout_s: float) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
    database.execute("PRAGMA query_only = ON")
    return database


def _inspect(path: Path, timeout_s: float) -> None:
    """Raise StoreError unless the file is an undamaged store of a known schema; writes nothing."""
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


def _connect(path: Path, timeout_s: float, clock: Callable[[], float]) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
    try:
        if _pragma(database, "journal_mode = WAL") != "wal":
            raise StoreError(f"{path} is on a file system without the shared memory that WAL needs")
        for setting in ("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            database.execute(f"PRAGMA {setting}")
        if _pragma(database, "user_version") < len(_MIGRATIONS):
            _migrate(database, path, clock)
    except BaseException:
        database.close()
        raise
    return database


def _migrate(database: sqlite3.Connection, path: Path, clock: Callable[[], float]) -> None:
    """Other servers' writes wait meanwhile, so that none is in the file but not in its copy."""
    with transaction(database):
        version = _pragma(database, "user_version")
        if 0 < version < len(_MIGRATIONS):
            _back_up(path, version, clock())
        for statements in _MIGRATIONS[version:]:
            for statement in statements:
                database.execute(statement)
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


def _back_up(path: Path, version: int, at: float) -> None:
    """Raise StoreError if there is no room for a copy, or no right to write one."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    copy = path.with_name(f"{path.name}.schema-{version}.{moment}.backup")
    try:
        os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            _copy(path, copy)
        except BaseException:
            copy.unlink()
            raise
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"{path} has schema {version} and is not migrated, as it cannot be copied to {copy}: "
            f"{error}"
        ) from error
    log.warning("schema %d was copied to %s before migration: delete it in time", version, copy)


def _copy(path: Path, target_path: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(target_path)) as target,
    ):
        source.backup(target)


def _pragma(database: sqlite3.Connection, text: str) -> Any:
    row = database.execute(f"PRAGMA {text}").fetchone()
    return row[0]
