"""A SQLite file that is damaged, or of an older schema."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from sayso import Client, SaysoError

from service.store.sqlite import file as sqlite_file
from tests.reliability.serving import RAW, refusal, server, speech
from tests.support.master_keys import new_key

VOICES = [f"voice-{number}" for number in range(20)]


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which `VOICES` are enrolled, its log folded into it."""
    path = tmp_path_factory.mktemp("voices") / "sayso.db"
    with server(f"sqlite:///{path}") as running, running.client() as sayso:
        for name in VOICES:
            assert sayso.enroll(name, speech(), raw=RAW).stored
    return path


@pytest.fixture
def path(voices: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copy(voices, tmp_path))


def _flip(path: Path, at: int, count: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        held = file.read(count)
        file.seek(at)
        file.write(bytes(byte ^ 0xFF for byte in held))


def test_an_overwritten_header(path: Path) -> None:
    _flip(path, 0, 16)
    before = path.read_bytes()
    assert "not a database" in refusal(path)
    assert path.read_bytes() == before


def test_flipped_bytes_in_the_structure(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'voiceprint'"
        ).fetchone()
    _flip(path, (root - 1) * page_bytes, 8)
    before = path.read_bytes()
    assert "restore it from a backup" in refusal(path)
    assert path.read_bytes() == before


def test_flipped_bytes_in_a_voice(tmp_path: Path) -> None:
    """A sealed record that was changed is not decided on; the other voices are."""
    path, key = tmp_path / "sayso.db", tmp_path / "master.key"
    key.write_text(f"{new_key()}\n")
    key.chmod(0o600)
    sealed = server(f"sqlite:///{path}", master_key_file=key)
    with sealed, sealed.client() as sayso:
        for name in ("sound", "damaged"):
            assert sayso.enroll(name, speech(), raw=RAW).stored
    with contextlib.closing(sqlite3.connect(path)) as database:
        (record,) = database.execute(
            "SELECT record FROM voiceprint WHERE speaker_id = 'damaged'"
        ).fetchone()
    _flip(path, path.read_bytes().index(record[-64:]), 1)
    with sealed, sealed.client() as sayso:
        with pytest.raises(SaysoError, match="INTERNAL"):
            sayso.verify("damaged", speech(), raw=RAW)
        assert sayso.verify("sound", speech(), raw=RAW).outcome == "ACCEPTED"
        sayso.speakers.delete("damaged")
        assert sayso.enroll("damaged", speech(), raw=RAW).stored


def test_a_file_that_is_damaged_while_it_is_served(path: Path) -> None:
    with server(f"sqlite:///{path}") as running, running.client() as sayso:
        size = path.stat().st_size
        _flip(path, 4096, size - 4096)
        answers = {_outcome(sayso, name) for name in VOICES}
        assert answers <= {"ACCEPTED", "Unavailable"}
        assert "Unavailable" in answers
        running.kill()
    assert "sayso.db" in refusal(path)


def _outcome(sayso: Client, speaker_id: str) -> str:
    try:
        return sayso.verify(speaker_id, speech(), raw=RAW).outcome
    except SaysoError as error:
        return type(error).__name__


NEWEST = len(sqlite_file._MIGRATIONS)


def _as_of(version: int, newest: Path, path: Path) -> None:
    """What a server of that schema would have made of the newest one's voices."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        for statements in sqlite_file._MIGRATIONS[:version]:
            for statement in statements:
                database.execute(statement)
        database.execute("ATTACH ? AS newest", (str(newest),))
        for table in ("speaker", "voiceprint"):
            columns = [row[1] for row in database.execute(f"PRAGMA main.table_info({table})")]
            names = ", ".join(columns)
            database.execute(
                f"INSERT INTO main.{table} ({names}) SELECT {names} FROM newest.{table}"  # noqa: S608
            )
        database.execute(f"PRAGMA user_version = {version}")
        database.execute(f"PRAGMA application_id = {int.from_bytes(b'SaYs')}")
        database.commit()


@pytest.mark.parametrize("version", range(1, NEWEST))
def test_a_store_of_an_older_schema(version: int, voices: Path, tmp_path: Path, long: bool) -> None:
    """It is migrated when the server starts, its voices as they were, a copy beside it."""
    if version not in (1, NEWEST - 1) and not long:
        pytest.skip("the first and the last before this one will do: --long runs all")
    path, name = tmp_path / "sayso.db", VOICES[0]
    _as_of(version, voices, path)
    with server(f"sqlite:///{path}") as running, running.client() as sayso:
        assert sayso.verify(name, speech(), raw=RAW).outcome == "ACCEPTED"
        assert sayso.enroll(name, speech(), raw=RAW).stored
    (copy,) = tmp_path.glob("sayso.db.schema-*.backup")
    with contextlib.closing(sqlite3.connect(copy)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (version,)
        assert database.execute("SELECT count(*) FROM speaker").fetchone() == (len(VOICES),)
