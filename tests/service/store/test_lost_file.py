"""A SQLite file that is deleted, moved or replaced under a server: nothing is acknowledged."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import Unavailable
from service.store import Speaker, open_store

MakeSpeaker = Callable[..., Speaker]


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def replace_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy.db")
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    copy.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "voices.db"


@pytest.mark.parametrize(
    ("lose", "reason"),
    [(delete, "deleted"), (move, "deleted"), (replace_by_a_copy, "replaced")],
)
async def test_a_store_whose_file_is_gone_says_so_and_stores_nothing(
    lose: Callable[[Path], None], reason: str, path: Path, make_speaker: MakeSpeaker
) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        stored = await store.put(make_speaker(), expected_etag=None)
        lose(path)
        for call in (
            store.ping(),
            store.put(make_speaker("bob"), expected_etag=None),
            store.get(stored.tenant, "alice"),
            store.delete(stored.tenant, "alice"),
            store.touch(stored.tenant, "alice", "model-a", at=9.0),
            store.groups.of(stored.tenant, "alice"),
        ):
            with pytest.raises(Unavailable, match=f"file was {reason} while the server ran"):
                await call


async def test_a_write_is_not_acknowledged_if_the_file_goes_meanwhile(
    path: Path, make_speaker: MakeSpeaker
) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await store.put(make_speaker(), expected_etag=None)

        def lose_it(database: sqlite3.Connection) -> None:
            database.execute("UPDATE speaker SET etag = 'x'")
            path.unlink()

        with pytest.raises(Unavailable, match="deleted"):
            await store._writer.run(lose_it)  # type: ignore[attr-defined]


async def test_a_restored_copy_gets_no_page_of_the_file_before_it(
    path: Path, make_speaker: MakeSpeaker
) -> None:
    """The write-ahead log of the old file is read into whatever has its name."""
    async with open_store(f"sqlite:///{path}") as store:
        speaker = await store.put(make_speaker(), expected_etag=None)
        replace_by_a_copy(path)  # holds alice
        with pytest.raises(Unavailable):
            await store.ping()
        async with open_store(f"sqlite:///{path}") as restored:
            await restored.put(make_speaker("bob"), expected_etag=None)
        with pytest.raises(Unavailable):
            await store.ping()
    shutil.copy(path, path.with_name("after.db"))
    async with open_store(f"sqlite:///{path}") as restored:
        page = await restored.list(speaker.tenant, limit=10)
        assert [each.speaker_id for each in page.speakers] == ["alice", "bob"]
        with sqlite3.connect(path) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()


async def test_moving_it_back_takes_a_restart(path: Path, make_speaker: MakeSpeaker) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        speaker = await store.put(make_speaker(), expected_etag=None)
        move(path)
        with pytest.raises(Unavailable):
            await store.ping()
        path.with_name("elsewhere.db").rename(path)
        with pytest.raises(Unavailable, match="restart the server"):
            await store.ping()
    async with open_store(f"sqlite:///{path}") as store:
        assert await store.get(speaker.tenant, "alice") == speaker
