"""Reread files when they change, without a restart and without a watching thread."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from service.errors import SettingsError

log = logging.getLogger(__name__)

T = TypeVar("T")
_State = tuple[tuple[int, ...] | None, ...]


class Reloaded(Generic[T]):
    """The value that `read` returns, read again when one of the files at `paths` changes.

    The first access of `value` raises the `SettingsError` of `read`. Later ones check the files at
    most every `look_every_s` seconds; if `read` then fails, the last value stays and the error is
    logged. Safe to use from any thread.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], T],
        *,
        clock: Callable[[], float] = time.monotonic,
        look_every_s: float = 1.0,
    ) -> None:
        self._paths = paths
        self._read = read
        self._clock = clock
        self._look_every_s = look_every_s
        self._checked_at_s = 0.0
        self._latest: tuple[_State, T] | None = None

    @property
    def value(self) -> T:
        latest, now_s = self._latest, self._clock()
        if latest is None:
            state = self._state()
            latest = (state, self._read())
        elif now_s - self._checked_at_s < self._look_every_s:
            return latest[1]
        else:
            latest = self._refresh(*latest)
        self._latest, self._checked_at_s = latest, now_s
        return latest[1]

    def _refresh(self, known: _State, value: T) -> tuple[_State, T]:
        """Read again if the files changed.

        The state is taken before the files are read, so a change in between is noticed next time.
        """
        state = self._state()
        if state == known:
            return known, value
        try:
            return state, self._read()
        except SettingsError as error:
            log.error("what was read before stays in use: %s", error)
            return state, value

    def _state(self) -> _State:
        return tuple(map(_read_stamp, self._paths))


def _read_stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
