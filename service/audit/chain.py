"""Verify a trail: every line holds the SHA-256 of the previous one, and its own HMAC under the
trail's key."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.audit.entries import GENESIS, START, Action, Head, digest, is_authentic, parse_line
from service.audit.volume import volumes


class BrokenChain(Exception):
    """`line` (from 1) of `path` is the first line that is not as it was written."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.path = path
        self.line = line


@dataclass(frozen=True, slots=True)
class Verified:
    """An intact chain: the count of entries, the number of the first, and the head.

    `torn` names lines that a crash cut short and that a repair entry follows.
    """

    entries: int
    first: int
    head: Head
    torn: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    path: Path
    number: int
    text: bytes


def files(paths: Sequence[Path]) -> list[Path]:
    """`paths` with every folder replaced by the files of the trail in it."""
    return [file for path in paths for file in (volumes(path) if path.is_dir() else [path])]


def lines(paths: Sequence[Path]) -> Iterator[Line]:
    """The lines of `files(paths)` in their order."""
    for path in files(paths):
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                yield Line(path, number, text)


def verify(
    paths: Sequence[Path], *, key: bytes | None = None, known: Collection[str] = ()
) -> Verified:
    """Check a trail's files, oldest first; raises `BrokenChain`.

    Without the HMAC `key` only the chain of digests is checked, which cannot detect that the whole
    trail was rewritten. `known` are digests of entries that were once in the trail: only they
    reveal that its end was cut off, since no later entry holds the last digest.
    """
    chain = _Chain(key)
    for line in lines(paths):
        chain.add(line)
    return chain.end(set(known))


class _Chain:
    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._entries = 0
        self._first = 0
        self._head = START
        self._last: Line | None = None
        self._unreadable: Line | None = None
        self._torn: list[str] = []
        self._digests: set[str] = set()

    def add(self, line: Line) -> None:
        if not line.text.endswith(b"\n"):
            raise _make_error(line, "is cut off")
        facts = parse_line(line.text)
        if facts is None:
            if self._unreadable is not None:
                raise _make_error(self._unreadable, "is no entry")
            self._unreadable = line
            return
        self._end_unreadable(repair=facts.get("action") == Action.REPAIR)
        seq, prev = int(facts["seq"]), str(facts["prev"])
        if not self._entries and not self._torn:
            self._check_first(line, seq, prev)
        else:
            self._check_next(line, seq, prev)
        if self._key is not None and not is_authentic(line.text, self._key):
            raise _make_error(line, "was not written with this key: forged, or of another key")
        self._head, self._last = Head(seq, digest(line.text)), line
        self._entries += 1
        self._digests.add(self._head.digest)

    def end(self, known: set[str]) -> Verified:
        if self._unreadable is not None:
            raise _make_error(self._unreadable, "is no entry")
        last = self._last or Line(Path(), 0, b"")
        if missing := known - self._digests:
            raise _make_error(
                last, f"the trail ends here, without the entry {min(missing)}: it was cut off"
            )
        return Verified(self._entries, self._first, self._head, tuple(self._torn))

    def _end_unreadable(self, *, repair: bool) -> None:
        """Accept an unreadable line as torn if a repair follows it; raises `BrokenChain` if not."""
        line = self._unreadable
        if line is None:
            return
        if not repair:
            raise _make_error(line, "is no entry")
        self._torn.append(f"{line.path}:{line.number}")
        self._head = Head(self._head.seq, digest(line.text))
        self._last, self._unreadable = line, None

    def _check_first(self, line: Line, seq: int, prev: str) -> None:
        oldest = line.path.name == "audit-000001.jsonl"
        if (seq == 1 and prev != GENESIS) or (seq != 1 and oldest):
            raise _make_error(line, "is not the first entry of a trail; earlier ones are missing")
        self._first = seq

    def _check_next(self, line: Line, seq: int, prev: str) -> None:
        previous = self._last
        assert previous is not None, "the first line is checked by _check_first"
        expected = self._head.seq + 1
        if seq != expected:
            raise _make_error(line, f"is entry {seq} where entry {expected} belongs")
        if prev != self._head.digest:
            raise _make_error(
                previous, "is not as it was written: the next entry holds another digest"
            )


def _make_error(line: Line, problem: str) -> BrokenChain:
    return BrokenChain(line.path, line.number, problem)
