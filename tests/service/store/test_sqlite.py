"""What is SQLite's own: the file, its schema, its failures."""

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import StoreError, Unavailable
from service.store import Speaker, open_store
from service.store.sqlite import store as sqlite_store

MakeSpeaker = Callable[..., Speaker]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "voices.db"


async def _open_and_close(path: Path) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await store.ping()


def _list_open_files(folder: Path) -> list[Path]:
    """The files in the folder that this process has open."""
    links = [file.readlink() for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    return [link for link in links if link.parent == folder]


async def _put_all(path: Path, speakers: Iterable[Speaker]) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        for speaker in speakers:
            await store.put(speaker, expected_etag=None)


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asyncio.run(_open_and_close(Path("odd name?#%.db")))
    assert [file.name for file in tmp_path.iterdir()] == ["odd name?#%.db"]


async def test_only_the_owner_may_read(path: Path, make_speaker: MakeSpeaker) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await store.put(make_speaker(), expected_etag=None)
        assert {file.name for file in path.parent.iterdir()} >= {"voices.db", "voices.db-wal"}
        for file in path.parent.iterdir():
            assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://a/b"])
def test_malformed_address(url: str) -> None:
    with pytest.raises(StoreError, match=r"sqlite:///relative\.db"):
        open_store(url)


@pytest.mark.parametrize("slow", ["open_writer", "open_reader"])
async def test_a_store_whose_opening_is_cancelled_keeps_no_file_open(
    path: Path, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connecting, go_on = threading.Event(), threading.Event()
    connect = getattr(sqlite_store, slow)

    def connect_slowly(*given: object) -> sqlite3.Connection:
        database: sqlite3.Connection = connect(*given)
        connecting.set()
        go_on.wait()
        return database

    monkeypatch.setattr(sqlite_store, slow, connect_slowly)
    opening = asyncio.create_task(_open_and_close(path))
    await asyncio.to_thread(connecting.wait)
    opening.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert _list_open_files(path.parent) == []


async def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist: create it"):
        await _open_and_close(tmp_path / "missing" / "voices.db")


async def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        await _open_and_close(tmp_path)


def _refused_untouched(path: Path, match: str) -> None:
    before = path.read_bytes()
    with pytest.raises(StoreError, match=match):
        asyncio.run(_open_and_close(path))
    assert path.read_bytes() == before


def test_not_a_database(path: Path) -> None:
    path.write_bytes(b"speaker,vector\n" * 1000)
    _refused_untouched(path, "not a database")


def test_another_applications_database(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE speaker (name TEXT)")
    _refused_untouched(path, "another application")


def test_newer_schema(path: Path) -> None:
    asyncio.run(_open_and_close(path))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    _refused_untouched(path, r"schema 99.*upgrade the server")


@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_damaged(path: Path, make_speaker: MakeSpeaker, damage: str) -> None:
    asyncio.run(_put_all(path, [make_speaker(f"{number}", vectors=20) for number in range(40)]))
    content = path.read_bytes()
    half = len(content) // 2
    rest = {"truncated": b"", "overwritten": b"\xff" * 8192 + content[half + 8192 :]}
    path.write_bytes(content[:half] + rest[damage])
    _refused_untouched(path, "damaged|malformed")


async def test_full_disk(path: Path, make_speaker: MakeSpeaker) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        first = await store.put(make_speaker(), expected_etag=None)
        with _no_file_grows_beyond(path.with_name("voices.db-wal").stat().st_size + 4096):
            with pytest.raises(Unavailable, match="disk"):
                await store.put(
                    make_speaker("bob", vectors=500, dim=256),
                    expected_etag=None,
                )
            assert await store.get(first.tenant, "alice") == first
            assert await store.get(first.tenant, "bob") is None
        await store.put(make_speaker("bob", vectors=500, dim=256), expected_etag=None)


@contextlib.contextmanager
def _no_file_grows_beyond(size: int) -> Iterator[None]:
    """What a full disk looks like to a write; only the soft limit, so that it can be lifted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


async def test_another_process_holds_the_file(path: Path, make_speaker: MakeSpeaker) -> None:
    async with open_store(f"sqlite:///{path}", timeout_s=0.05) as store:
        first = await store.put(make_speaker(), expected_etag=None)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                await store.put(replace(first, metadata={"n": "2"}), expected_etag=first.etag)
            assert await store.get(first.tenant, "alice") == first
            other.execute("ROLLBACK")
        await store.put(replace(first, metadata={"n": "2"}), expected_etag=first.etag)


async def test_servers_that_start_at_once(path: Path, make_speaker: MakeSpeaker) -> None:
    """Each finds no schema, one makes it."""
    await asyncio.gather(*(_put_all(path, [make_speaker(f"{n}")]) for n in range(8)))
    async with open_store(f"sqlite:///{path}") as store:
        assert len((await store.list(make_speaker().tenant, limit=10)).speakers) == 8


_ENROL_UNTIL_KILLED = """
import asyncio, sys
from service.store import Speaker, SpeakerState, open_store

async def main():
    async with open_store(sys.argv[1]) as store:
        for number in range(10_000):
            speaker = Speaker("t", str(number), SpeakerState.PENDING, 1.0, 1.0)
            await store.put(speaker, expected_etag=None)
            print(number, flush=True)

asyncio.run(main())
"""


def _acknowledged_before_sigkill(url: str) -> int:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", _ENROL_UNTIL_KILLED, url], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline() for _ in range(25)]
        process.kill()
        return len(acknowledged + process.stdout.readlines())


async def test_what_is_acknowledged_survives_sigkill(path: Path) -> None:
    count = _acknowledged_before_sigkill(f"sqlite:///{path}")
    async with open_store(f"sqlite:///{path}") as store:
        found = [await store.get("t", str(number)) for number in range(count)]
    assert len(found) >= 25
    assert None not in found


def test_a_deleted_voice_leaves_no_trace_in_the_file(path: Path, make_speaker: MakeSpeaker) -> None:
    async def delete() -> None:
        async with open_store(f"sqlite:///{path}") as store:
            assert await store.delete(speaker.tenant, "alice")

    speaker = make_speaker(vectors=50, dim=256)
    vector = speaker.voiceprints["model-a"].vectors[7].tobytes()
    asyncio.run(_put_all(path, [speaker]))
    assert vector in path.read_bytes()
    asyncio.run(delete())
    assert vector not in path.read_bytes()
