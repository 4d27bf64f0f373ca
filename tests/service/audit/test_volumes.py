"""The files of a trail: one chain, whoever appends, and whatever breaks on the way."""

import errno
import json
import multiprocessing
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.audit import chain
from service.audit.entries import Action, Event, digest, is_authentic
from service.audit.volume import volumes
from service.audit.volumes import Volumes, make_folder
from service.errors import SettingsError

AT = 1_700_000_000.0
KEY = b"k" * 32
DAY_S = 86_400.0


def event(n: int = 0) -> Event:
    return Event(Action.VERIFY, "ACCEPTED", tenant="t", request_id=str(n))


class Trails:
    """Opens trails of one folder, as processes of one machine do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: list[Volumes] = []

    def open(self, max_bytes: int = 2**20, *, daily: bool = False) -> Volumes:
        opened = Volumes(self.folder, key=KEY, max_bytes=max_bytes, daily=daily)
        opened.open()
        self._opened.append(opened)
        return opened

    def close(self) -> None:
        for opened in self._opened:
            opened.close()

    def facts(self) -> list[dict[str, Any]]:
        return [json.loads(line.text) for line in chain.lines([self.folder])]


@pytest.fixture
def trails(tmp_path: Path) -> Iterator[Trails]:
    made = Trails(tmp_path / "audit")
    yield made
    made.close()


def append(trail: Volumes, *numbers: int, at: float = AT) -> None:
    trail.append([event(n) for n in numbers], at=at, durable=True)


def test_an_entry(trails: Trails) -> None:
    trail = trails.open()
    entries = trail.append([event(1), event(2)], at=AT, durable=True)
    first, second = trails.facts()
    assert first == {
        "seq": 1,
        "prev": "0" * 64,
        "time": "2023-11-14T22:13:20.000000Z",
        "action": "verify",
        "outcome": "ACCEPTED",
        "tenant": "t",
        "request_id": "1",
        "hmac": first["hmac"],
    }
    assert all(is_authentic(entry.line, KEY) for entry in entries)
    assert (second["seq"], second["prev"]) == (2, entries[0].head.digest)
    assert entries[1].head.digest == digest(entries[1].line)
    assert chain.verify([trails.folder]).head == entries[1].head


def test_only_the_owner_may_read(trails: Trails) -> None:
    append(trails.open(), 1)
    for path in trails.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(trails.folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="no audit trail can be kept"):
        make_folder(tmp_path / "file" / "audit")


def test_the_chain_goes_on_after_a_restart(trails: Trails) -> None:
    for n in range(3):
        append(trails.open(), n)
    assert chain.verify([trails.folder]).entries == 3


def test_a_full_file_is_followed_by_the_next(trails: Trails) -> None:
    trail = trails.open(max_bytes=300)
    for n in range(7):
        append(trail, n)
    files = volumes(trails.folder)
    assert [path.name for path in files] == [f"audit-{n:06}.jsonl" for n in range(1, 5)]
    assert chain.verify([trails.folder]).entries == 7
    append(trails.open(max_bytes=300), 7)
    assert chain.verify(files).entries == 8
    assert chain.verify(files[1:]).first == 3


def test_a_day_is_followed_by_the_next(trails: Trails) -> None:
    for at in (AT, AT + 1, AT + DAY_S, AT + DAY_S + 1, AT + 3 * DAY_S):
        append(trails.open(daily=True), 1, at=at)
    assert [len(path.read_bytes().splitlines()) for path in volumes(trails.folder)] == [2, 2, 1]
    assert chain.verify([trails.folder]).entries == 5


def test_a_new_file_left_empty_by_a_crash(trails: Trails) -> None:
    append(trails.open(), 1, 2)
    (trails.folder / "audit-000002.jsonl").touch()
    append(trails.open(), 3)
    assert [fact["seq"] for fact in trails.facts()] == [1, 2, 3]
    assert chain.verify([trails.folder]).entries == 3


def test_several_who_append_in_turn(trails: Trails) -> None:
    one, other = trails.open(max_bytes=500), trails.open(max_bytes=500)
    for n in range(12):
        append(one, n)
        append(other, n + 100, n + 200)
    assert len(volumes(trails.folder)) > 3
    assert chain.verify([trails.folder]).entries == 36


def _append_many(folder: Path, name: int) -> None:
    trail = Volumes(folder, key=KEY, max_bytes=4000)
    trail.open()
    for n in range(50):
        append(trail, name + n, name + n)
    trail.close()


def test_processes_share_one_chain(trails: Trails) -> None:
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_append_many, args=(trails.folder, n * 100)) for n in (1, 2)]
    for process in running:
        process.start()
    for process in running:
        process.join()
        assert process.exitcode == 0
    assert chain.verify([trails.folder]).entries == 200
    assert len({fact["request_id"] for fact in trails.facts()}) == 100


def _append_for_ever(folder: Path) -> None:
    trail = Volumes(folder, key=KEY, max_bytes=100_000)
    trail.open()
    while True:
        append(trail, *range(20))


def test_a_process_killed_while_it_writes(trails: Trails) -> None:
    trail = trails.open()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_append_for_ever, args=(trails.folder,))
    process.start()
    seq = 0
    while seq < 40:
        seq = trail.append([event()], at=AT, durable=False)[0].head.seq
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    append(trail, 1)
    found = chain.verify([trails.folder])
    assert found.entries == found.head.seq > 40


@pytest.mark.parametrize("cut", [2, 20, 200])
def test_a_torn_line_stays_and_is_repaired(trails: Trails, cut: int) -> None:
    append(trails.open(), 1, 2, 3)
    (file,) = volumes(trails.folder)
    whole = file.read_bytes()
    torn = whole[:-cut]
    file.write_bytes(torn)
    trail = trails.open()
    with pytest.raises(chain.BrokenChain, match="is cut off"):
        chain.verify([trails.folder])
    append(trail, 4, 5)
    assert file.read_bytes().startswith(torn + b"\n")
    found = chain.verify([trails.folder])
    assert found.torn == (f"{file}:{torn.count(bytes([10])) + 1}",)
    assert found.head.seq == found.entries == torn.count(b"\n") + 3
    repairs = [line for line in file.read_text().splitlines() if '"repair"' in line]
    assert json.loads(repairs[0])["outcome"] == "TORN_LINE"


def test_an_entry_that_lacks_only_its_newline(trails: Trails) -> None:
    append(trails.open(), 1, 2)
    (file,) = volumes(trails.folder)
    file.write_bytes(file.read_bytes()[:-1])
    append(trails.open(), 3)
    assert [fact["request_id"] for fact in trails.facts()] == ["1", "2", "3"]
    assert chain.verify([trails.folder]).torn == ()


def test_a_torn_first_line(trails: Trails) -> None:
    append(trails.open(), 1)
    (file,) = volumes(trails.folder)
    file.write_bytes(file.read_bytes()[:30])
    append(trails.open(), 2)
    found = chain.verify([trails.folder])
    assert (found.entries, found.torn) == (2, (f"{file}:1",))


def test_a_line_torn_by_another_process_is_noticed(trails: Trails) -> None:
    trail = trails.open()
    append(trail, 1)
    (file,) = volumes(trails.folder)
    with file.open("ab") as appended:
        appended.write(b'{"seq":2,"pre')
    append(trail, 2)
    assert chain.verify([trails.folder]).torn == (f"{file}:2",)


def test_a_full_disk_leaves_no_half_entry(trails: Trails, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = trails.open()
    append(trail, 1)
    write, room = os.write, [50]

    def full(file: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[: room.pop()])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        append(trail, 2)
    monkeypatch.setattr(os, "write", write)
    assert chain.verify([trails.folder]).entries == 1
    append(trail, 3)
    assert [fact["request_id"] for fact in trails.facts()] == ["1", "3"]
    assert chain.verify([trails.folder]).entries == 2


def test_lines_cut_off_under_a_running_server_are_found(
    trails: Trails, caplog: pytest.LogCaptureFixture
) -> None:
    trail = trails.open()
    append(trail, 1, 2, 3)
    (file,) = volumes(trails.folder)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0])
    append(trail, 4)
    assert "cut off after entry 1" in caplog.text
    with pytest.raises(chain.BrokenChain, match="is entry 4 where entry 2 belongs"):
        chain.verify([trails.folder])


def test_a_file_removed_under_a_running_server_is_found(trails: Trails) -> None:
    trail = trails.open()
    append(trail, 1, 2, 3)
    volumes(trails.folder)[0].unlink()
    append(trail, 4)
    assert chain.verify([trails.folder]).first == 4
