"""The trail of a running server: entries of many calls in one write, off the event loop."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from service.audit.entries import DECISIONS, Action, Entry, Event, Head
from service.audit.heads import Heads
from service.audit.subjects import Subjects, key_beside
from service.audit.volumes import LOCK_PATIENCE_S, Volumes, make_folder
from service.errors import Unavailable, copy_for_caller
from service.inference.threads import Threads
from service.settings import AuditOptions

_DEFAULTS = AuditOptions()
_MOST_AT_ONCE = 1000

log = logging.getLogger(__name__)


def enter(folder: Path, event: Event, *, at: float, key: Path) -> Entry:
    """Write one entry from a command, also beside running servers; it is on the disk on return.

    Raises `SettingsError` if `folder` cannot hold a trail, OSError if the entry cannot be written.
    """
    make_folder(folder)
    volumes = Volumes(folder, key=Subjects.open(key).signing_key, max_bytes=_DEFAULTS.max_bytes)
    try:
        volumes.open()
        return volumes.append([event], at=at, durable=True)[0]
    finally:
        volumes.close()


class Trail:
    """An async context manager; entering raises `SettingsError` if no trail can be kept.

    Every `options.heads_every_s` seconds, and on exit, a new last entry is published to the heads.
    """

    def __init__(
        self,
        folder: Path,
        options: AuditOptions = _DEFAULTS,
        *,
        lock_patience_s: float = LOCK_PATIENCE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._key = options.key or key_beside(folder)
        self._open_volumes = partial(
            Volumes,
            folder,
            max_bytes=options.max_bytes,
            daily=options.daily,
            lock_patience_s=lock_patience_s,
        )
        self._heads = Heads(options.heads)
        self._heads_every_s = options.heads_every_s
        self._head: Head | None = None
        self._sync_all = options.sync == "all"
        self._clock = clock
        self._thread = Threads(1, name="audit")
        self._subjects: Subjects | None = None
        self._volumes: Volumes | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._waiting: list[tuple[Event, asyncio.Future[Entry]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._lost = 0

    async def __aenter__(self) -> Self:
        try:
            await self._thread.run(self._open)
        except BaseException:  # cancelled, too, while the thread goes on opening
            await self._close()
            raise
        self._publishing = asyncio.create_task(self._publish_heads())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write entries that still wait."""
        if self._writing is not None:
            await self._writing
        if self._publishing is not None:
            self._publishing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._publishing
        await self._publish_head()
        await self._close()

    def make_pseudonym(self, tenant: str, speaker_id: str) -> str:
        """The pseudonym of a speaker."""
        assert self._subjects is not None, "a trail is used inside `async with`"
        return self._subjects.make_pseudonym(tenant, speaker_id)

    async def ping(self) -> None:
        """Raise `Unavailable` while no entry can be written."""
        try:
            await self._thread.run(self._check)
        except OSError as error:
            raise _make_unavailable(error) from error

    async def record(self, event: Event) -> Entry:
        """Write an entry and return it; raises `Unavailable` if that fails.

        Lost entries are counted, and the next one that succeeds tells how many.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((event, future))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        entry: Entry = await future
        return entry

    async def _close(self) -> None:
        await self._thread.run(self._close_volumes)
        self._thread.close()

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
                        future.set_exception(_make_unavailable(error))
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(copy_for_caller(error))
            else:
                for (_, future), entry in zip(batch, entries, strict=True):
                    if not future.done():
                        future.set_result(entry)

    async def _publish_heads(self) -> None:
        while True:
            await asyncio.sleep(self._heads_every_s)
            await self._publish_head()

    async def _publish_head(self) -> None:
        head, self._head = self._head, None
        if head is not None:
            await self._thread.run(self._heads.publish, head)

    def _open(self) -> None:
        make_folder(self._folder)
        self._subjects = Subjects.open(self._key)
        self._volumes = self._open_volumes(key=self._subjects.signing_key)
        self._volumes.open()

    def _close_volumes(self) -> None:
        if self._volumes is not None:
            self._volumes.close()

    def _check(self) -> None:
        """Raise OSError while no entry can be written. After a loss, the entry that reports it is
        written, which proves that the trail is writable again."""
        assert self._volumes is not None, "a trail is used inside `async with`"
        if self._lost:
            self._append([])
        else:
            self._volumes.check()

    def _append(self, events: Sequence[Event]) -> list[Entry]:
        assert self._volumes is not None, "a trail is used inside `async with`"
        lost = self._lost
        notes = [Event(Action.LOST, "NOT_WRITTEN", detail={"entries": lost})] if lost else []
        # what is not durable yet is lost only if the machine fails
        durable = self._sync_all or any(event.action not in DECISIONS for event in events)
        entries = self._volumes.append([*notes, *events], at=self._clock(), durable=durable)
        self._lost -= lost
        self._head = entries[-1].head
        return entries[len(notes) :]


def _make_unavailable(error: OSError) -> Unavailable:
    return Unavailable(f"the audit trail cannot be written: {error.strerror}")
