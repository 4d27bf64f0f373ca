"""Every way to tamper with a trail, and where it is found."""

import json
import random
from pathlib import Path

import pytest

from service.audit import chain
from service.audit.chain import BrokenChain
from service.audit.entries import START, Action, Event, Head, digest, make_entry

AT = 1_700_000_000.0
KEY = b"k" * 32


def trail(count: int, after: Head = START) -> list[bytes]:
    lines = []
    for n in range(count):
        entry = make_entry(Event(Action.VERIFY, "REJECTED", request_id=str(n)), after, AT + n, KEY)
        lines.append(entry.line)
        after = entry.head
    return lines


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit-000001.jsonl"


def broken(file: Path, lines: list[bytes], *known: str) -> BrokenChain:
    file.write_bytes(b"".join(lines))
    with pytest.raises(BrokenChain) as found:
        chain.verify([file], known=known)
    return found.value


def test_a_whole_chain(file: Path) -> None:
    lines = trail(5)
    file.write_bytes(b"".join(lines))
    found = chain.verify([file], known=[digest(lines[0]), digest(lines[-1])])
    assert found == chain.Verified(5, 1, Head(5, digest(lines[-1])), ())


def test_an_empty_trail_is_whole(file: Path) -> None:
    file.touch()
    assert chain.verify([file]).entries == 0


@pytest.mark.parametrize("at", range(4))
def test_a_changed_line(file: Path, at: int) -> None:
    lines = trail(5)
    lines[at] = lines[at].replace(b"REJECTED", b"ACCEPTED")
    assert broken(file, lines).line == at + 1


def test_any_changed_byte(file: Path) -> None:
    rng = random.Random(0)
    lines = trail(5)
    whole = b"".join(lines)
    for _ in range(300):
        at = rng.randrange(len(whole) - len(lines[-1]))
        other = bytearray(whole)
        other[at] ^= rng.randrange(1, 256)
        file.write_bytes(other)
        with pytest.raises(BrokenChain):
            chain.verify([file])


@pytest.mark.parametrize("at", range(4))
def test_a_removed_line(file: Path, at: int) -> None:
    lines = trail(5)
    del lines[at]
    assert broken(file, lines).line == at + 1


@pytest.mark.parametrize("at", range(4))
def test_reordered_lines(file: Path, at: int) -> None:
    lines = trail(5)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    assert broken(file, lines).line == at + 1


def test_a_repeated_line(file: Path) -> None:
    lines = trail(3)
    assert broken(file, [*lines[:2], *lines[1:]]).line == 3


def test_an_inserted_line(file: Path) -> None:
    lines = trail(3)
    forged = make_entry(Event(Action.DELETE, "DONE"), Head(1, digest(lines[0])), AT, KEY).line
    assert broken(file, [lines[0], forged, *lines[1:]]).line == 3


def test_renumbered_after_a_removal(file: Path) -> None:
    lines = trail(4)
    facts = json.loads(lines[2])
    lines[2] = json.dumps(facts | {"seq": 2}, separators=(",", ":")).encode() + b"\n"
    del lines[1]
    assert broken(file, lines).line == 1


@pytest.mark.parametrize("at", range(5))
def test_a_line_that_is_cut_off(file: Path, at: int) -> None:
    lines = trail(5)
    assert broken(file, [*lines[:at], lines[at][:-20]]).line == at + 1
    assert broken(file, [*lines[:at], lines[at][:-20] + b"\n", *lines[at + 1 :]]).line == at + 1


def test_what_is_no_entry(file: Path) -> None:
    lines = trail(3)
    for other in (b"\n", b"[]\n", b"{}\n", b'{"seq":"2","prev":""}\n', b"\xff\n"):
        assert broken(file, [lines[0], other, *lines[1:]]).line == 2


def test_a_missing_end_is_found_by_a_known_head(file: Path) -> None:
    lines = trail(5)
    file.write_bytes(b"".join(lines[:3]))
    assert chain.verify([file], known=[digest(lines[2])]).entries == 3
    found = broken(file, lines[:3], digest(lines[3]))
    assert found.line == 3
    assert digest(lines[3]) in str(found)


def test_a_trail_written_anew_is_found_by_a_known_head(file: Path) -> None:
    known = digest(trail(5)[-1])
    first = make_entry(Event(Action.VERIFY, "ACCEPTED"), START, AT, KEY)
    assert broken(file, [first.line, *trail(4, first.head)], known).line == 5


def test_a_missing_beginning(file: Path, tmp_path: Path) -> None:
    lines = trail(5)
    assert broken(file, lines[2:]).line == 1
    later = tmp_path / "audit-000002.jsonl"
    later.write_bytes(b"".join(lines[2:]))
    assert chain.verify([later]).first == 3


def test_a_beginning_that_follows_something(file: Path) -> None:
    assert broken(file, trail(1, Head(0, "1" * 64))).line == 1


def test_files_in_the_wrong_order_or_missing(tmp_path: Path) -> None:
    lines, files = trail(6), [tmp_path / f"audit-{n:06}.jsonl" for n in (1, 2, 3)]
    for path, at in zip(files, (0, 2, 4), strict=True):
        path.write_bytes(b"".join(lines[at : at + 2]))
    assert chain.verify([tmp_path]).entries == 6
    for wrong in ([files[0], files[2]], [files[1], files[0]]):
        with pytest.raises(BrokenChain) as found:
            chain.verify(wrong)
        assert (found.value.path, found.value.line) == (wrong[1], 1)


def test_a_repair_hides_nothing(file: Path) -> None:
    lines = trail(4)
    torn = lines[2][:25] + b"\n"
    repair = make_entry(Event(Action.REPAIR, "TORN_LINE"), Head(2, digest(torn)), AT, KEY)
    file.write_bytes(b"".join([*lines[:2], torn, repair.line, *trail(1, repair.head)]))
    assert chain.verify([file]).torn == (f"{file}:3",)
    assert broken(file, [*lines[:2], lines[2][:24] + b"\n", repair.line]).line == 3
    assert broken(file, [*lines[:2], torn, torn, repair.line]).line == 3
    assert broken(file, [lines[0], torn, repair.line]).line == 3
