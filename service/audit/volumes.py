"""The numbered files of a trail, which any number of processes append to.

    audit-000001.jsonl ─> audit-000002.jsonl ─> ...   the chain continues from file to file
    audit.lock                                        locked (flock) by the process that appends

A crash may cut a line short. It is left as it is: the next entry, a `repair`, starts on a new line
and holds the digest of the torn one.
"""

import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from service.audit.entries import (
    START,
    Action,
    Entry,
    Event,
    Head,
    digest,
    make_entry,
    parse_line,
    rfc3339,
)
from service.audit.volume import Volume, volume_path, volumes
from service.errors import SettingsError

LOCK_PATIENCE_S = 5.0
_LOCK_POLL_S = 0.005

log = logging.getLogger(__name__)


def make_folder(folder: Path) -> None:
    """Create the folder if it is missing; raises `SettingsError` if that fails."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _make_settings_error(folder, error) from error


class Volumes:
    """The trail in `folder`, for use by one thread; entries are signed with `key`.

    A new file is started once the last has reached `max_bytes` or, with `daily`, is of an earlier
    UTC day. Every call may raise OSError, and has then written nothing: TimeoutError if another
    process holds the lock for `lock_patience_s`, and from then on at once until the lock is free.
    """

    def __init__(
        self,
        folder: Path,
        *,
        key: bytes,
        max_bytes: int,
        daily: bool = False,
        lock_patience_s: float = LOCK_PATIENCE_S,
    ) -> None:
        self._folder = folder
        self._key = key
        self._max_bytes = max_bytes
        self._daily = daily
        self._lock_patience_s = lock_patience_s
        self._stuck = False
        self._lock: int | None = None
        self._last: Volume | None = None
        self._head = START
        self._day = ""
        self._torn = b""

    def open(self) -> None:
        """Open the trail, creating its folder; raises `SettingsError` if that fails."""
        make_folder(self._folder)
        try:
            self._lock = os.open(self._folder / "audit.lock", os.O_RDWR | os.O_CREAT, 0o600)
            with self._hold_lock():
                self._catch_up()
        except OSError as error:
            raise _make_settings_error(self._folder, error) from error

    def close(self) -> None:
        if self._last is not None:
            self._last.close()
        if self._lock is not None:
            os.close(self._lock)
        self._last = self._lock = None

    def append(self, events: Sequence[Event], *, at: float, durable: bool) -> list[Entry]:
        """Write `events` in order; they are on the disk on return if `durable`."""
        with self._hold_lock():
            volume = self._catch_up()
            if self._is_full(volume, at):
                volume = self._start(volume.number + 1)
            head, repairs = self._head_after_torn()
            entries: list[Entry] = []
            for event in (*repairs, *events):
                entries.append(make_entry(event, head, at, self._key))
                head = entries[-1].head
            end = b"\n" if self._torn else b""
            volume.append(end + b"".join(entry.line for entry in entries), durable=durable)
            self._head, self._day, self._torn = head, rfc3339(at)[:10], b""
        return entries[len(repairs) :]

    def _head_after_torn(self) -> tuple[Head, list[Event]]:
        """The head before the next line; an entry lacking only its newline needs no repair."""
        if not self._torn:
            return self._head, []
        facts = parse_line(self._torn)
        if facts is not None:
            return Head(int(facts["seq"]), digest(self._torn)), []
        return Head(self._head.seq, digest(self._torn)), [Event(Action.REPAIR, "TORN_LINE")]

    @contextlib.contextmanager
    def _hold_lock(self) -> Iterator[None]:
        assert self._lock is not None, "a trail is opened before it is used"
        self._take_lock(self._lock)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _take_lock(self, lock: int) -> None:
        deadline_s = time.monotonic() + (0 if self._stuck else self._lock_patience_s)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    self._stuck = True
                    raise TimeoutError(
                        errno.ETIMEDOUT, "another process keeps its lock, audit.lock"
                    ) from None
                time.sleep(_LOCK_POLL_S)
            else:
                self._stuck = False
                return

    def check(self) -> None:
        """Find the end of the trail as an append would, without writing to it."""
        with self._hold_lock():
            self._catch_up()

    def _catch_up(self) -> Volume:
        """The last file, after reading what other processes have written."""
        volume = self._last
        if volume is None or not volume.is_latest:
            volume = self._open_latest(volume.number if volume else 0)
        if volume.has_changed:
            self._read_end(volume)
        return volume

    def _open_latest(self, known: int) -> Volume:
        paths = volumes(self._folder)
        if not paths:
            return self._start(known + 1)
        return self._switch_to(Volume.open(paths[-1]))

    def _start(self, number: int) -> Volume:
        return self._switch_to(Volume.create(self._folder, number))

    def _switch_to(self, volume: Volume) -> Volume:
        if self._last is not None:
            self._last.close()
        self._last = volume
        return volume

    def _is_full(self, volume: Volume, at: float) -> bool:
        if not volume.size or self._torn:
            return False
        return volume.size >= self._max_bytes or (self._daily and self._day != rfc3339(at)[:10])

    def _read_end(self, volume: Volume) -> None:
        """Read the head from the last lines, unless they are older than the known head."""
        end = volume.end()
        self._torn = end.torn
        if end.head is None:
            earlier = volume_path(self._folder, volume.number - 1)
            if not earlier.exists():
                return
            with contextlib.closing(Volume.open(earlier)) as previous:
                end = previous.end()
        if end.head is None:
            return
        self._day = end.day
        if end.head.seq < self._head.seq:
            log.error("the audit trail was cut off after entry %d by somebody else", end.head.seq)
            return
        self._head = end.head


def _make_settings_error(folder: Path, error: OSError) -> SettingsError:
    return SettingsError(f"no audit trail can be kept in {folder}: {error.strerror}")
