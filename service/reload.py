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
    """The value that `read` makes of `paths`, read again after they change.

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
        self._looked_s = 0.0
        self._held: tuple[_State, T] | None = None

    @property
    def value(self) -> T:
        held, now_s = self._held, self._clock()
        if held is None:
            state = self._state()
            held = (state, self._read())
        elif now_s - self._looked_s < self._look_every_s:
            return held[1]
        else:
            held = self._followed(*held)
        self._held, self._looked_s = held, now_s
        return held[1]

    def _followed(self, known: _State, value: T) -> tuple[_State, T]:
        """The state is taken before the files are read, so a change in between is seen later."""
        state = self._state()
        if state == known:
            return known, value
        try:
            return state, self._read()
        except SettingsError as error:
            log.error("what was read before stays in use: %s", error)
            return state, value

    def _state(self) -> _State:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
