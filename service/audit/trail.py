"""The trail as a server keeps it: entries of many calls in one write, off the event loop."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from service.audit.entries import DECISIONS, Action, Entry, Event
from service.audit.subjects import Subjects
from service.audit.volumes import Volumes
from service.errors import Unavailable, apart
from service.threads import Threads

MAX_FILE_BYTES = 64 * 2**20
_MOST_AT_ONCE = 1000

log = logging.getLogger(__name__)


class Sync(StrEnum):
    """What is on the disk when it is acknowledged; the rest is with the operating system, which
    loses it only when the machine fails."""

    ALL = "all"
    CHANGES = "changes"


def enter(folder: Path, event: Event, *, at: float) -> Entry:
    """One entry by a command rather than a server, also beside running ones; on the disk on return.

    Raises `SettingsError` where nothing can be kept, OSError where it cannot be written.
    """
    volumes = Volumes(folder, max_bytes=MAX_FILE_BYTES)
    volumes.open()
    try:
        return volumes.append([event], at=at, durable=True)[0]
    finally:
        volumes.close()


class Trail:
    """Entered by `async with`, which raises `SettingsError` where nothing can be kept."""

    def __init__(
        self,
        folder: Path,
        *,
        key: Path,
        sync: Sync = Sync.ALL,
        max_bytes: int = MAX_FILE_BYTES,
        daily: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._volumes = Volumes(folder, max_bytes=max_bytes, daily=daily)
        self._key = key
        self._sync = sync
        self._clock = clock
        self._thread = Threads(1, name="audit")
        self._subjects: Subjects | None = None
        self._waiting: list[tuple[Event, asyncio.Future[Entry]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._lost = 0

    async def __aenter__(self) -> Self:
        await self._thread.run(self._open)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Enters what still waits."""
        if self._writing is not None:
            await self._writing
        await self._thread.run(self._volumes.close)
        self._thread.close()

    def subject(self, tenant: str, speaker_id: str) -> str:
        """The pseudonym of a speaker."""
        assert self._subjects is not None, "a trail is used inside `async with`"
        return self._subjects.of(tenant, speaker_id)

    async def record(self, event: Event) -> Entry:
        """The entry, once it is in the trail; raises `Unavailable` when it cannot be.

        What cannot be entered is counted, and the next entry tells of it.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((event, future))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        entry: Entry = await future
        return entry

    async def _write(self) -> None:
        while self._waiting:
            batch = self._waiting[:_MOST_AT_ONCE]
            del self._waiting[:_MOST_AT_ONCE]
            events = [event for event, _ in batch]
            try:
                entries = await self._thread.run(self._append, events)
            except OSError as error:
                log.error("%d entries of the audit trail are lost: %s", len(batch), error)
                self._lost += len(batch)
                for _, future in batch:
                    if not future.done():
                        future.set_exception(_unwritable(error))
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(apart(error))
            else:
                for (_, future), entry in zip(batch, entries, strict=True):
                    if not future.done():
                        future.set_result(entry)

    def _open(self) -> None:
        self._volumes.open()
        self._subjects = Subjects.open(self._key)

    def _append(self, events: Sequence[Event]) -> list[Entry]:
        lost = self._lost
        notes = [Event(Action.LOST, "NOT_WRITTEN", detail={"entries": lost})] if lost else []
        durable = self._sync is Sync.ALL or any(e.action not in DECISIONS for e in events)
        entries = self._volumes.append([*notes, *events], at=self._clock(), durable=durable)
        self._lost -= lost
        return entries[len(notes) :]


def _unwritable(error: OSError) -> Unavailable:
    return Unavailable(f"the audit trail cannot be written: {error.strerror}")
