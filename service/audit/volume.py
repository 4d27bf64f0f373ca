"""One file of a trail: appends whole lines or nothing, and reads back its end."""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from service.audit.entries import Head, digest, parse_line

_NAME = re.compile(r"audit-(\d{6,})\.jsonl")
_BLOCK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class End:
    """The head and UTC day of a file's last whole entry, if any, and the bytes after it that lack
    a newline."""

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
        """The size in bytes when its end was last read; None before."""

    @classmethod
    def open(cls, path: Path) -> Self:
        return cls(path, 0)

    @classmethod
    def create(cls, folder: Path, number: int) -> Self:
        """A new file, whose directory entry is on the disk as well."""
        volume = cls(volume_path(folder, number), os.O_CREAT | os.O_EXCL)
        volume.size = 0
        try:
            _sync(folder)
        except OSError:
            volume.close()
            raise
        return volume

    def close(self) -> None:
        os.close(self._file)

    @property
    def is_latest(self) -> bool:
        """Whether the file still exists and no newer one does."""
        exists = os.fstat(self._file).st_nlink > 0
        return exists and not volume_path(self._path.parent, self.number + 1).exists()

    @property
    def has_changed(self) -> bool:
        """Whether its size differs from when its end was last read."""
        return os.fstat(self._file).st_size != self.size

    def end(self) -> End:
        """Read the end of the file, and set `size`."""
        self.size = os.fstat(self._file).st_size
        wanted_bytes = _BLOCK_BYTES
        while True:
            start = max(0, self.size - wanted_bytes)
            *lines, torn = os.pread(self._file, self.size - start, start).split(b"\n")
            whole = lines if start == 0 else lines[1:]
            for line in reversed(whole):
                if (facts := parse_line(line)) is not None:
                    head = Head(int(facts["seq"]), digest(whole[-1]))
                    return End(head, str(facts.get("time", ""))[:10], torn)
            if start == 0:
                return End(None, "", torn)
            wanted_bytes *= 2

    def append(self, data: bytes, *, durable: bool) -> None:
        """Append `data`, on the disk on return if `durable`; if it raises, nothing was appended."""
        assert self.size is not None, "end() comes before append()"
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
            if durable:
                os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size)
            self.size = None  # end() must be called again
            raise
        self.size += len(data)


def volumes(folder: Path) -> list[Path]:
    """The files of the trail in `folder`, the oldest first."""
    return sorted(filter(_is_volume, folder.iterdir()), key=number)


def volume_path(folder: Path, number: int) -> Path:
    return folder / f"audit-{number:06}.jsonl"


def number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None, "only files of a trail are numbered"
    return int(match[1])


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_volume(path: Path) -> bool:
    return _NAME.fullmatch(path.name) is not None
