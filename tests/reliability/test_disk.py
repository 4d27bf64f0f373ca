"""What can happen to a SQLite store's disk and file: full, read-only, damaged, old, shared."""

import contextlib
import resource
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from master_keys import new_key
from reliability.disks import allow_writing, forbid_writing, small_disk
from reliability.load import PATIENCE_S, RAW, Enrolling, kept, server, speech, wait_until
from reliability.results import Seen
from sayso_server import SaysoServer, ServerFailed

from benchmarks.figures import below
from service.client import Client
from service.errors import SaysoError, Unavailable
from service.store import open_store, sqlite_file

SECTION = "disk"
_FEW = 20  # enrolments
VOICES = [f"voice-{number}" for number in range(_FEW)]


def _started(path: Path) -> SaysoServer:
    return server(f"sqlite:///{path}")


def _refusal(path: Path) -> str:
    """Why a server with this store does not start."""
    running = _started(path)
    with pytest.raises(ServerFailed) as caught, running:
        pass
    assert running.process.returncode == 2
    assert "Traceback" not in str(caught.value)
    return str(caught.value).splitlines()[-1]


def _enrol_until_full(running: SaysoServer) -> Enrolling:
    with Enrolling(running.address, "filling") as enrolling:
        wait_until(lambda: enrolling.refused > _FEW, "full")
    assert not enrolling.unlike
    assert enrolling.count > 0
    return enrolling


async def _check_full(path: Path, running: SaysoServer, make_room: Callable[[], None]) -> int:
    """How many enrolments were acknowledged before there was no room."""
    enrolling = _enrol_until_full(running)
    speaker_id = next(iter(enrolling.acknowledged))
    with running.client() as sayso:
        assert sayso.ready()
        assert sayso.get(speaker_id)
        began_s = time.monotonic()
        with pytest.raises(Unavailable, match="store"):
            sayso.enroll("late", speech(), raw=RAW)
        assert time.monotonic() - began_s < PATIENCE_S
        make_room()
        assert sayso.enroll("late", speech(), raw=RAW).stored
        assert sayso.verify(speaker_id, speech(), raw=RAW).outcome == "ACCEPTED"
    running.kill()
    async with open_store(f"sqlite:///{path}") as store:
        assert await kept(store, enrolling.acknowledged) == []
        assert await store.get("default", "late") is not None
    return enrolling.count


async def test_a_full_disk(tmp_path: Path, seen: Seen) -> None:
    with small_disk(tmp_path / "disk", 1024) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(256 * 1024))
        with _started(disk / "sayso.db") as running:
            count = await _check_full(disk / "sayso.db", running, filler.unlink)
    how = f"{count} enrolments acknowledged on a disk of 1 MiB before it was full"
    seen.tell(SECTION, "full_lost", [0], "enrolments", how, below(0))


async def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """RLIMIT_FSIZE of the server's process, which needs no root."""
    path = tmp_path / "sayso.db"
    with _started(path) as running:
        pid = running.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (512 * 1024, hard))

        def make_room() -> None:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

        await _check_full(path, running, make_room)


def test_a_disk_that_cannot_be_written_to(tmp_path: Path) -> None:
    """The server says so and does not start; it does once the disk can be written to."""
    with small_disk(tmp_path / "disk", 4096) as disk:
        path = disk / "sayso.db"
        with _started(path):
            pass
        forbid_writing(disk)
        assert "sayso.db cannot be opened" in _refusal(path)
        allow_writing(disk)
        with _started(path) as running, running.client() as sayso:
            assert sayso.enroll("slt", speech(), raw=RAW).stored


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which `VOICES` are enrolled, its log folded into it."""
    path = tmp_path_factory.mktemp("voices") / "sayso.db"
    with _started(path) as running, running.client() as sayso:
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
    assert "not a database" in _refusal(path)
    assert path.read_bytes() == before


def test_flipped_bytes_in_the_structure(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'voiceprint'"
        ).fetchone()
    _flip(path, (root - 1) * page_bytes, 8)
    before = path.read_bytes()
    assert "restore it from a backup" in _refusal(path)
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
        sayso.delete("damaged")
        assert sayso.enroll("damaged", speech(), raw=RAW).stored


def test_a_file_that_is_damaged_while_it_is_served(path: Path) -> None:
    with _started(path) as running, running.client() as sayso:
        size = path.stat().st_size
        _flip(path, 4096, size - 4096)
        answers = {_outcome(sayso, name) for name in VOICES}
        assert answers <= {"ACCEPTED", "Unavailable"}
        assert "Unavailable" in answers
        running.kill()
    assert "sayso.db" in _refusal(path)


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
def test_a_store_of_an_older_schema(
    version: int, voices: Path, tmp_path: Path, long: bool
) -> None:
    """It is migrated when the server starts, its voices as they were, a copy beside it."""
    if version not in (1, NEWEST - 1) and not long:
        pytest.skip("the first and the last before this one will do: --long runs all")
    path, name = tmp_path / "sayso.db", VOICES[0]
    _as_of(version, voices, path)
    with _started(path) as running, running.client() as sayso:
        assert sayso.verify(name, speech(), raw=RAW).outcome == "ACCEPTED"
        assert sayso.enroll(name, speech(), raw=RAW).stored
    (copy,) = tmp_path.glob("sayso.db.schema-*.backup")
    with contextlib.closing(sqlite3.connect(copy)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (version,)
        assert database.execute("SELECT count(*) FROM speaker").fetchone() == (_FEW,)


async def test_two_servers_on_one_file(tmp_path: Path, seen: Seen) -> None:
    """Both enrol the same speakers at once; each enrolment counts, and both know of all."""
    url = f"sqlite:///{tmp_path / 'sayso.db'}"
    with server(url) as one, server(url) as other:
        with Enrolling(one.address, "one") as first, Enrolling(other.address, "two") as second:
            wait_until(lambda: min(first.count, second.count) > 2 * _FEW, "enrolled")
        with one.client() as sayso:
            speaker_id = next(iter(second.acknowledged))
            assert sayso.verify(speaker_id, speech(), raw=RAW).outcome == "ACCEPTED"
    assert not first.unlike
    assert not second.unlike
    async with open_store(url) as store:
        assert await kept(store, first.acknowledged | second.acknowledged) == []
    count, refused = first.count + second.count, first.refused + second.refused
    how = f"{count} acknowledged by two servers on one file, {refused} refused"
    seen.tell(SECTION, "two_servers_lost", [0], "enrolments", how, below(0))
