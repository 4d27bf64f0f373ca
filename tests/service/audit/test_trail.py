"""The trail as a server keeps it: acknowledged entries are there, many in one write."""

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.audit import Action, Trail, chain, enter
from service.audit.entries import Event, parse_line
from service.errors import SettingsError, Unavailable
from service.settings import AuditOptions


@pytest.fixture
async def trail(tmp_path: Path) -> AsyncIterator[Trail]:
    async with Trail(tmp_path / "audit") as opened:
        yield opened


def event(action: Action = Action.VERIFY, request_id: str = "") -> Event:
    return Event(action, "DONE", request_id=request_id)


def facts(folder: Path) -> list[dict[str, object]]:
    found = [parse_line(line.text) for line in chain.lines([folder / "audit"])]
    return [dict(each) for each in found if each is not None]


async def test_an_entry_is_there_when_it_is_acknowledged(trail: Trail, tmp_path: Path) -> None:
    entry = await trail.record(event())
    found = chain.verify([tmp_path / "audit"], known=[entry.head.digest])
    assert found.head == entry.head


async def test_entries_of_many_calls_share_writes(
    trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), fsync(file)))
    entries = await asyncio.gather(*(trail.record(event(request_id=f"{n}")) for n in range(500)))
    assert [entry.event.request_id for entry in entries] == [f"{n}" for n in range(500)]
    assert [entry.head.seq for entry in entries] == list(range(1, 501))
    assert 1 <= len(synced) <= 3
    assert chain.verify([tmp_path / "audit"]).entries == 500


async def test_decisions_need_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync
    async with Trail(tmp_path / "audit", AuditOptions(sync="changes")) as trail:
        monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), fsync(file)))
        await trail.record(event(Action.VERIFY))
        await trail.record(event(Action.IDENTIFY))
        assert not synced
        for action in (Action.ENROL, Action.DELETE, Action.LOCK, Action.KEY):
            before = len(synced)
            await trail.record(event(action))
            assert len(synced) == before + 1


async def test_a_full_disk_is_unavailable_and_is_told_of_later(
    trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await trail.record(event(request_id="before"))
    write = os.write

    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    outcomes = await asyncio.gather(
        *(trail.record(event()) for _ in range(3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert "No space left" in str(outcomes[0])
    assert "lost" in caplog.text
    monkeypatch.setattr(os, "write", write)
    await trail.record(event(request_id="after"))
    await trail.record(event(request_id="later"))
    assert [(each["action"], each.get("detail")) for each in facts(tmp_path)] == [
        ("verify", None),
        ("lost", {"entries": 3}),
        ("verify", None),
        ("verify", None),
    ]
    chain.verify([tmp_path / "audit"])


async def test_an_entry_that_nobody_waits_for_any_more_is_entered(
    trail: Trail, tmp_path: Path
) -> None:
    waiting = asyncio.create_task(trail.record(event(request_id="left")))
    await asyncio.sleep(0)
    waiting.cancel()
    await trail.record(event(request_id="stayed"))
    assert [each["request_id"] for each in facts(tmp_path)] == ["left", "stayed"]


async def test_leaving_enters_what_still_waits(tmp_path: Path) -> None:
    async with Trail(tmp_path / "audit") as trail:
        waiting = [asyncio.create_task(trail.record(event())) for _ in range(20)]
        await asyncio.sleep(0)
    assert [(await each).head.seq for each in waiting] == list(range(1, 21))


async def test_the_loop_does_not_wait_for_the_disk(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, released = asyncio.get_running_loop(), asyncio.Event()
    reached = asyncio.Event()
    fsync = os.fsync

    def slow(file: int) -> None:
        loop.call_soon_threadsafe(reached.set)
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result(timeout=20)
        fsync(file)

    monkeypatch.setattr(os, "fsync", slow)
    entry = asyncio.create_task(trail.record(event()))
    await reached.wait()
    assert not entry.done()
    released.set()
    await entry


async def test_two_servers_on_one_folder(trail: Trail, tmp_path: Path) -> None:
    async with Trail(tmp_path / "audit") as other:
        assert other.make_pseudonym("t", "alice") == trail.make_pseudonym("t", "alice")
        await asyncio.gather(*(each.record(event()) for _ in range(30) for each in (trail, other)))
    assert chain.verify([tmp_path / "audit"]).entries == 60


async def test_a_command_enters_beside_a_server(trail: Trail, tmp_path: Path) -> None:
    await trail.record(event(Action.VERIFY))
    key = tmp_path / "audit.key"
    enter(tmp_path / "audit", Event(Action.KEY, "DONE", detail={"key": "k1"}), at=1.7e9, key=key)
    await trail.record(event(Action.VERIFY))
    assert [each["action"] for each in facts(tmp_path)] == ["verify", "key", "verify"]
    chain.verify([tmp_path / "audit"])


async def test_a_defect_leaves_nobody_waiting(trail: Trail) -> None:
    broken = Event(Action.VERIFY, "DONE", detail={"score": b"bytes"})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        await trail.record(broken)
    await trail.record(event())


def list_open_files(folder: Path) -> list[Path]:
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it is that of the listing itself
            found.append(each.readlink())
    return [file for file in found if file.is_relative_to(folder)]


async def test_an_opening_that_is_cancelled_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, may_go_on = threading.Event(), threading.Event()
    open_file = os.open

    def open_slowly(path: os.PathLike[str], *flags: int) -> int:
        opened = open_file(path, *flags)
        if Path(path).name == "audit.lock":
            locked.set()
            may_go_on.wait(10)
        return opened

    monkeypatch.setattr(os, "open", open_slowly)
    opening = asyncio.ensure_future(Trail(tmp_path / "audit").__aenter__())
    await asyncio.to_thread(locked.wait, 10)
    opening.cancel()
    asyncio.get_running_loop().call_later(0.1, may_go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not list_open_files(tmp_path)


async def test_an_opening_that_fails_leaves_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "audit" / "audit-000001.jsonl").mkdir(parents=True)
    with pytest.raises(SettingsError):
        await Trail(tmp_path / "audit").__aenter__()
    assert not list_open_files(tmp_path)
