"""A SQLite store whose disk is full or cannot be written to, and one that two servers share."""

import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sayso import Unavailable

from benchmarks.figures import below
from service.store import open_store
from tests.reliability.disks import allow_writing, forbid_writing, small_disk
from tests.reliability.enrolling import Enrolling, kept
from tests.reliability.results import Seen
from tests.reliability.serving import PATIENCE_S, RAW, refusal, server, speech, wait_until
from tests.support.sayso_server import SaysoServer

SECTION = "disk"
_FEW = 20  # enrolments


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
        assert sayso.speakers.get(speaker_id)
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
        with server(f"sqlite:///{disk}/sayso.db") as running:
            count = await _check_full(disk / "sayso.db", running, filler.unlink)
    how = f"{count} enrolments acknowledged on a disk of 1 MiB before it was full"
    seen.tell(SECTION, "full_lost", [0], "enrolments", how, below(0))


async def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """RLIMIT_FSIZE of the server's process, which needs no root."""
    path = tmp_path / "sayso.db"
    with server(f"sqlite:///{path}") as running:
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
        with server(f"sqlite:///{path}"):
            pass
        forbid_writing(disk)
        assert "sayso.db cannot be opened" in refusal(path)
        allow_writing(disk)
        with server(f"sqlite:///{path}") as running, running.client() as sayso:
            assert sayso.enroll("slt", speech(), raw=RAW).stored


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
