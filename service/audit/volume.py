"""One file of a trail: lines are appended to it, whole or not at all, and its end is read again."""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from service.audit.entries import Head, digest, parsed

_NAME = re.compile(r"audit-(\d{6,})\.jsonl")
_BLOCK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class End:
    """The head and UTC day of a file's last whole entry, where it has one, and what follows that
    entry without a newline."""

    head: Head | None
    day: str
    torn: bytes


class Volume:
    """An open file, the `number`th of its folder. Every call may raise OSError."""

    def __init__(self, path: Path, flags: int) -> None:
        self.number = number(path)
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | flags, 0o600)
        self.size: int | None = None
        """Up to where its end is known, in bytes; None for one of which nothing is."""

    @classmethod
    def opened(cls, path: Path) -> Self:
        return cls(path, 0)

    @classmethod
    def started(cls, folder: Path, number: int) -> Self:
        """A new one, whose name is on the disk as well."""
        made = cls(named(folder, number), os.O_CREAT | os.O_EXCL)
        made.size = 0
        try:
            _sync(folder)
        except OSError:
            made.close()
            raise
        return made

    def close(self) -> None:
        os.close(self._file)

    @property
    def latest(self) -> bool:
        """Whether it is there still, and none follows it."""
        there = os.fstat(self._file).st_nlink > 0
        return there and not named(self._path.parent, self.number + 1).exists()

    @property
    def grown(self) -> bool:
        """Whether there is more, or less, in it than is known."""
        return os.fstat(self._file).st_size != self.size

    def end(self) -> End:
        """Reads it; `size` is then known."""
        self.size = os.fstat(self._file).st_size
        wanted_bytes = _BLOCK_BYTES
        while True:
            start = max(0, self.size - wanted_bytes)
            *lines, torn = os.pread(self._file, self.size - start, start).split(b"\n")
            whole = lines if start == 0 else lines[1:]
            for line in reversed(whole):
                if (facts := parsed(line)) is not None:
                    head = Head(int(facts["seq"]), digest(whole[-1]))
                    return End(head, str(facts.get("time", ""))[:10], torn)
            if start == 0:
                return End(None, "", torn)
            wanted_bytes *= 2

    def append(self, data: bytes, *, durable: bool) -> None:
        """On the disk on return if `durable`; where it raises nothing was appended."""
        assert self.size is not None, "its end was read"
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
            if durable:
                os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size)
            self.size = None  # read again what is there
            raise
        self.size += len(data)


def volumes(folder: Path) -> list[Path]:
    """The files of the trail in `folder`, the oldest first."""
    return sorted(filter(_is_volume, folder.iterdir()), key=number)


def named(folder: Path, number: int) -> Path:
    return folder / f"audit-{number:06}.jsonl"


def number(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    assert found is not None, "only files of a trail are numbered"
    return int(found[1])


def _sync(folder: Path) -> None:
    above = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def _is_volume(path: Path) -> bool:
    return _NAME.fullmatch(path.name) is not None
