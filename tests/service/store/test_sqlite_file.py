"""The file gets a newer schema only once there is a copy of the older one."""

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import StoreError
from service.store import Speaker, open_store
from service.store.sqlite.store import SqliteStore

MakeSpeaker = Callable[..., Speaker]

BEFORE_SEALING = 4


@pytest.fixture
def old(tmp_path: Path, make_speaker: MakeSpeaker) -> Path:
    """A file as the schema before the latest had it, with a speaker in it."""
    path = tmp_path / "voices.db"
    asyncio.run(_enrol(path, make_speaker(vectors=200, dim=256)))
    with contextlib.closing(sqlite3.connect(path)) as database:
        for table in ("tenant_key", "sweep", "opt_out", "announced_call", "event_count", "event"):
            database.execute(f"DROP TABLE {table}")
        database.execute("ALTER TABLE failures ADD COLUMN keep_until REAL NOT NULL DEFAULT 0")
        database.execute("CREATE INDEX failures_by_end ON failures (keep_until)")
        database.execute(f"PRAGMA user_version = {BEFORE_SEALING}")
    return path


async def _enrol(path: Path, speaker: Speaker) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await store.put(speaker, expected_etag=None)


async def _read(path: Path, tenant: str, at: float = 1_763_856_000.0) -> Speaker | None:
    async with SqliteStore(path, clock=lambda: at) as store:
        return await store.get(tenant, "alice")


def version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def copies(path: Path) -> list[Path]:
    return sorted(path.parent.glob("*.backup"))


def test_an_older_schema_is_copied_and_then_migrated(
    old: Path, make_speaker: MakeSpeaker, caplog: pytest.LogCaptureFixture
) -> None:
    tenant = make_speaker().tenant
    found = asyncio.run(_read(old, tenant))
    assert version(old) > BEFORE_SEALING
    (copy,) = copies(old)
    assert copy.name == "voices.db.schema-4.20251123T000000Z.backup"
    assert copy.name in caplog.text
    assert copy.stat().st_mode & 0o777 == 0o600
    assert version(copy) == BEFORE_SEALING
    assert asyncio.run(_read(copy, tenant)) == found


def test_the_newest_schema_is_not_copied(old: Path, make_speaker: MakeSpeaker) -> None:
    for _ in range(2):
        asyncio.run(_read(old, make_speaker().tenant))
    assert len(copies(old)) == 1


def test_a_new_file_is_not_copied_and_only_its_owners(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        asyncio.run(_read(tmp_path / "new.db", "t"))
    finally:
        os.umask(umask)
    assert copies(tmp_path / "new.db") == []
    assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o600


def test_no_copy_no_migration(old: Path, make_speaker: MakeSpeaker) -> None:
    """A file of that name is in the way, and stays as it is."""
    tenant = make_speaker().tenant
    obstacle = old.with_name("voices.db.schema-4.20251123T000000Z.backup")
    obstacle.write_text("mine")
    with pytest.raises(StoreError, match="is not migrated, as it cannot be copied"):
        asyncio.run(_read(old, tenant))
    assert version(old) == BEFORE_SEALING
    assert obstacle.read_text() == "mine"
    obstacle.unlink()
    assert asyncio.run(_read(old, tenant)) is not None


def test_a_full_disk_leaves_no_half_copy(old: Path, make_speaker: MakeSpeaker) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(StoreError, match="cannot be copied"):
            asyncio.run(_read(old, make_speaker().tenant))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert copies(old) == []
    assert version(old) == BEFORE_SEALING


def test_servers_that_start_at_once_make_one_copy(old: Path, make_speaker: MakeSpeaker) -> None:
    async def start() -> None:
        found = await asyncio.gather(*(_read(old, make_speaker().tenant) for _ in range(6)))
        assert None not in found

    asyncio.run(start())
    assert len(copies(old)) == 1
