"""The files of a trail: numbered, only ever appended to, by any number of processes.

    audit-000001.jsonl ─> audit-000002.jsonl ─> ...   the chain goes on from one to the next
    audit.lock                                        held (flock) by who appends

A crash may leave a line without its end. It stays as it is: the next entry, a `repair`, starts on a
line of its own and holds the digest of what was torn.
"""

import contextlib
import fcntl
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from service.audit.entries import (
    START,
    Action,
    Entry,
    Event,
    Head,
    digest,
    entered,
    parsed,
    rfc3339,
)
from service.errors import SettingsError

_NAME = re.compile(r"audit-(\d{6,})\.jsonl")
_BLOCK_BYTES = 65_536

log = logging.getLogger(__name__)


def volumes(folder: Path) -> list[Path]:
    """The files of the trail in `folder`, the oldest first."""
    found = {_NAME.fullmatch(path.name): path for path in folder.iterdir()}
    return [found[match] for match in sorted(filter(None, found), key=lambda m: int(m[1]))]


class Volumes:
    """The trail in `folder`; a file that has reached `max_bytes`, and with `daily` one of an
    earlier UTC day, is followed by a new one. To be used by one thread.

    Every call may raise OSError, and has then entered nothing.
    """

    def __init__(self, folder: Path, *, max_bytes: int, daily: bool = False) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._daily = daily
        self._lock: int | None = None
        self._file: int | None = None
        self._number = 0
        self._size = 0
        self._head = START
        self._day = ""
        self._torn = b""

    def open(self) -> None:
        """Makes the folder where there is none; raises `SettingsError` where that cannot be."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._folder / "audit.lock", os.O_RDWR | os.O_CREAT, 0o600)
            with self._locked():
                self._follow()
        except OSError as error:
            raise SettingsError(f"no audit trail can be kept in {self._folder}: {error}") from error

    def close(self) -> None:
        for file in (self._file, self._lock):
            if file is not None:
                os.close(file)
        self._file = self._lock = None

    def append(self, events: Sequence[Event], *, at: float, durable: bool) -> list[Entry]:
        """Enters `events` in this order; on the disk on return if `durable`."""
        with self._locked():
            self._follow()
            if self._full(at):
                self._start(self._number + 1)
            head, repairs = self._head_after_torn()
            entries: list[Entry] = []
            for event in (*repairs, *events):
                entries.append(entered(event, head, at))
                head = entries[-1].head
            end = b"\n" if self._torn else b""
            self._write(end + b"".join(entry.line for entry in entries), durable=durable)
            self._head, self._day, self._torn = head, rfc3339(at)[:10], b""
        return entries[len(repairs) :]

    def _head_after_torn(self) -> tuple[Head, list[Event]]:
        """What the next line follows; an entry that lacks only its newline needs no repair."""
        if not self._torn:
            return self._head, []
        facts = parsed(self._torn)
        if facts is not None:
            return Head(int(facts["seq"]), digest(self._torn)), []
        return Head(self._head.seq, digest(self._torn)), [Event(Action.REPAIR, "TORN_LINE")]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        assert self._lock is not None, "a trail is opened before it is used"
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _follow(self) -> None:
        """Catches up with what other processes entered since."""
        if self._file is None or not os.fstat(self._file).st_nlink or self._path(1).exists():
            there = volumes(self._folder)
            if there:
                self._reopen(there[-1])
            else:
                self._start(self._number + 1)
        assert self._file is not None, "it was just opened"
        size = os.fstat(self._file).st_size
        if size != self._size:
            self._read_end(size)

    def _reopen(self, path: Path) -> None:
        self._close_file()
        self._file = os.open(path, os.O_RDWR | os.O_APPEND)
        match = _NAME.fullmatch(path.name)
        assert match is not None, "volumes() gives such names only"
        self._number, self._size = int(match[1]), -1

    def _start(self, number: int) -> None:
        self._close_file()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL
        self._file = os.open(self._path(number - self._number), flags, 0o600)
        self._number, self._size = number, 0
        _sync_folder(self._folder)

    def _path(self, further: int) -> Path:
        return self._folder / f"audit-{self._number + further:06}.jsonl"

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _full(self, at: float) -> bool:
        if not self._size or self._torn:
            return False
        return self._size >= self._max_bytes or (self._daily and self._day != rfc3339(at)[:10])

    def _read_end(self, size: int) -> None:
        """Learns the head from the last lines, unless they are older than what is known of it."""
        found, self._torn = _end(self._file, size)
        if found is None:
            earlier = self._folder / f"audit-{self._number - 1:06}.jsonl"
            if earlier.exists():
                with earlier.open("rb") as file:
                    found, _ = _end(file.fileno(), earlier.stat().st_size)
        self._size = size
        if found is None:
            return
        head, self._day = found
        if head.seq < self._head.seq:
            log.error("the audit trail was cut off after entry %d by somebody else", head.seq)
            return
        self._head = head

    def _write(self, data: bytes, *, durable: bool) -> None:
        assert self._file is not None, "follow() has opened it"
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
            if durable:
                os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            self._size = -1  # read again what is there
            raise
        self._size += len(data)


def _end(file: int | None, size: int) -> tuple[tuple[Head, str] | None, bytes]:
    """The head and day of the last whole entry, if any, and what follows it without a newline."""
    assert file is not None, "the caller has opened it"
    wanted = _BLOCK_BYTES
    while True:
        start = max(0, size - wanted)
        *lines, torn = os.pread(file, size - start, start).split(b"\n")
        whole = lines if start == 0 else lines[1:]
        for line in reversed(whole):
            if (facts := parsed(line)) is not None:
                head = Head(int(facts["seq"]), digest(whole[-1]))
                return (head, str(facts.get("time", ""))[:10]), torn
        if start == 0:
            return None, torn
        wanted *= 2


def _sync_folder(folder: Path) -> None:
    """A new file's name is on the disk as well."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
