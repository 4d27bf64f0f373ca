"""The embedded store: one SQLite file in WAL mode, several servers on it if need be.

A write is on the disk (`synchronous=FULL`) when its call returns. Writes go through one
connection and reads through another, each on a thread of its own, so the event loop never waits
for a disk. Deleted content is overwritten with zeros (`secure_delete`), and after an erasure the
write-ahead log is emptied, as it holds earlier copies of the pages.
"""

import contextlib
import enum
import itertools
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from service.errors import Aborted, StillReadable, StoreError, Unavailable
from service.sealing import Sealing
from service.store.failures import FailureCount
from service.store.groups import MemberPage
from service.store.records import USE_RESOLUTION_S, Page, Speaker, opted_out_speaker
from service.store.sealed import NewRecords, RecordCodec, StoredRecords
from service.store.sqlite import calls as sqlite_calls
from service.store.sqlite import events as sqlite_events
from service.store.sqlite import failures as sqlite_failures
from service.store.sqlite import groups as sqlite_groups
from service.store.sqlite import keys as sqlite_keys
from service.store.sqlite import tenants as sqlite_tenants
from service.store.sqlite.connection import Connection, empty_log, transaction
from service.store.sqlite.file import open_reader, open_writer

_Result = TypeVar("_Result")
_ERASURE_WAIT_S = 1.0  # for other processes' reads to end

log = logging.getLogger(__name__)

_SELECT = """
    SELECT s.speaker_id, s.etag, s.profile, s.history, v.model_id, v.record, v.used_at
    FROM (SELECT * FROM speaker WHERE tenant = ? AND {}) AS s
    LEFT JOIN voiceprint AS v USING (tenant, speaker_id)
    ORDER BY s.speaker_id, v.model_id
"""
_SELECT_ONE = _SELECT.format("speaker_id = ?")
_SELECT_MANY = _SELECT.format("speaker_id IN (SELECT value FROM json_each(?))")
_SELECT_PAGE = _SELECT.format("speaker_id > ? ORDER BY speaker_id LIMIT ?")
_SELECT_PAGE_DOWN = _SELECT.format(
    "speaker_id < coalesce(?, x'') ORDER BY speaker_id DESC LIMIT ?"  # a blob is above all texts
).replace("ORDER BY s.speaker_id,", "ORDER BY s.speaker_id DESC,")
_BEGINNINGS = """
    SELECT speaker_id, substr(profile, 1, ?) FROM speaker WHERE tenant = ? AND speaker_id > ?
    ORDER BY speaker_id LIMIT ?
"""
_TENANTS = """
    SELECT tenant FROM tenant_count WHERE speakers > 0 UNION SELECT tenant FROM tenant_key
    ORDER BY tenant
"""


class SqliteStore:
    """`Store` in the file at `path`; a write waits `timeout_s` for other processes' writes."""

    def __init__(
        self,
        path: Path,
        *,
        timeout_s: float = 1.0,
        sealing: Sealing | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._clock = clock
        self._owes_erasure = False
        self._writer = Connection(path, "store-writer")
        self._reader = Connection(path, "store-reader")
        self.groups = sqlite_groups.SqliteGroups(read=self._reader.run, write=self._write)
        self.failures = sqlite_failures.SqliteFailures(read=self._reader.run, write=self._write)
        self.calls = sqlite_calls.SqliteCalls(write=self._write)
        self.keys = sqlite_keys.SqliteKeys(read=self._reader.run, write=self._write)
        self.records = RecordCodec(self.keys, sealing)
        self.events = sqlite_events.SqliteEvents(
            self.records, read=self._reader.run, write=self._writer.run
        )

    @classmethod
    def from_url(cls, url: str, timeout_s: float = 1.0, sealing: Sealing | None = None) -> Self:
        """`sqlite:///relative.db` or `sqlite:////absolute.db`; raises StoreError."""
        _, separator, path = url.partition("sqlite:///")
        if not separator or path in ("", ":memory:"):
            raise StoreError(
                "a SQLite store is sqlite:///relative.db or sqlite:////absolute.db, "
                "a file that outlives the server"
            )
        return cls(Path(path), timeout_s=timeout_s, sealing=sealing)

    async def __aenter__(self) -> Self:
        try:
            await self._writer.open(partial(open_writer, self._path, self._timeout_s, self._clock))
            await self._reader.open(partial(open_reader, self._path, self._timeout_s))
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        try:
            await self._reader.close()
        finally:
            await self._writer.close()

    async def ping(self) -> None:
        try:
            await self._reader.run(lambda db: db.execute("SELECT 1 FROM speaker").fetchone())
        except Unavailable:
            with contextlib.suppress(Unavailable):
                await self._writer.run(lambda _: None)  # closes it, too, if the file is gone
            raise
        if self._owes_erasure:
            await self._writer.run(partial(self._empty_log, wait_s=0.0))

    async def get(self, tenant: str, speaker_id: str) -> Speaker | None:
        rows = await self._reader.run(
            lambda db: db.execute(_SELECT_ONE, (tenant, speaker_id)).fetchall()
        )
        return await self.records.decode(tenant, _parse_rows(rows)[0]) if rows else None

    async def get_with_failures(
        self, tenant: str, speaker_id: str
    ) -> tuple[Speaker | None, FailureCount]:
        def read(db: sqlite3.Connection) -> tuple[list[Any], FailureCount]:
            rows = db.execute(_SELECT_ONE, (tenant, speaker_id)).fetchall()
            return rows, sqlite_failures.read_count(db, tenant, speaker_id)

        rows, failures = await self._reader.run(read)
        speaker = await self.records.decode(tenant, _parse_rows(rows)[0]) if rows else None
        return speaker, failures

    async def get_many(self, tenant: str, speaker_ids: Sequence[str]) -> Sequence[Speaker]:
        ids = json.dumps(list(speaker_ids))
        rows = await self._reader.run(lambda db: db.execute(_SELECT_MANY, (tenant, ids)).fetchall())
        return await self.records.decode_readable(tenant, _parse_rows(rows))

    async def list(
        self, tenant: str, *, limit: int, after: str | None = None, descending: bool = False
    ) -> Page:
        select, start = (_SELECT_PAGE_DOWN, after) if descending else (_SELECT_PAGE, after or "")
        rows = await self._reader.run(
            lambda db: db.execute(select, (tenant, start, limit)).fetchall()
        )
        stored = _parse_rows(rows)
        speakers = tuple(await self.records.decode_readable(tenant, stored))
        return Page(speakers, stored[-1].speaker_id if len(stored) == limit else None)

    async def count(self, tenant: str) -> int:
        return await self._reader.run(lambda db: sqlite_tenants.count_speakers(db, tenant))

    async def put(self, speaker: Speaker, *, expected_etag: str | None) -> Speaker:
        stored = replace(speaker, etag=secrets.token_hex(8))
        await self.records.write(
            stored,
            lambda written: self._writer.run(partial(self._put, written, expected_etag)),
        )
        return stored

    async def delete(
        self, tenant: str, speaker_id: str, *, expected_etag: str | None = None
    ) -> bool:
        def delete(database: sqlite3.Connection) -> bool:
            deleted = _delete(database, tenant, speaker_id, expected_etag)
            if deleted:
                self._forget(database)
            return deleted

        return await self._writer.run(delete)

    async def opted_out(self, tenant: str, speaker_id: str) -> Speaker | None:
        opt_out = await self._reader.run(
            lambda db: sqlite_tenants.read_opt_out(db, tenant, speaker_id)
        )
        return opt_out and opted_out_speaker(tenant, speaker_id, etag=opt_out[0], at=opt_out[1])

    async def swept_at(self, tenant: str) -> float | None:
        return await self._reader.run(lambda db: sqlite_tenants.read_sweep(db, tenant))

    async def note_sweep(self, tenant: str, *, at: float) -> None:
        await self._write(lambda db: sqlite_tenants.note_sweep(db, tenant, at))

    async def touch(self, tenant: str, speaker_id: str, model_id: str, *, at: float) -> None:
        await self._writer.run(
            lambda db: db.execute(
                "UPDATE voiceprint SET used_at = ? WHERE tenant = ? AND speaker_id = ?"
                " AND model_id = ? AND (used_at IS NULL OR used_at <= ?)",
                (at, tenant, speaker_id, model_id, at - USE_RESOLUTION_S),
            )
        )

    async def lagging(
        self, tenant: str, beginning: bytes, *, limit: int, after: str | None = None
    ) -> MemberPage:
        rows = await self._reader.run(
            lambda db: db.execute(
                _BEGINNINGS, (len(beginning), tenant, after or "", limit)
            ).fetchall()
        )
        others = tuple(speaker_id for speaker_id, prefix in rows if prefix != beginning)
        return MemberPage(others, rows[-1][0] if len(rows) == limit else None)

    async def tenants(self) -> Sequence[str]:
        rows = await self._reader.run(lambda db: db.execute(_TENANTS).fetchall())
        return [row[0] for row in rows]

    async def settle(self) -> None:
        if not await self._writer.run(partial(self._empty_log, wait_s=_ERASURE_WAIT_S)):
            raise StillReadable(
                "what was deleted can still be read in the store's write-ahead log, as another "
                "process reads the file: end it, and run this again"
            )

    def _put(self, speaker: NewRecords, expected_etag: str | None, db: sqlite3.Connection) -> bool:
        outcome = _put(db, speaker, expected_etag)
        if outcome is _Outcome.ERASED:
            self._forget(db)
        return outcome is not _Outcome.REFUSED

    def _forget(self, database: sqlite3.Connection) -> None:
        """Empty the log after an erasure; if that is not possible yet, a later `ping` does it."""
        if not self._owes_erasure and not self._empty_log(database, wait_s=_ERASURE_WAIT_S):
            log.warning(
                "a voice was erased, and can be read in the write-ahead log until no other "
                "process reads the store"
            )

    def _empty_log(self, database: sqlite3.Connection, *, wait_s: float) -> bool:
        try:
            emptied = empty_log(database, wait_s=wait_s)
        finally:
            database.execute(f"PRAGMA busy_timeout = {round(self._timeout_s * 1000)}")
        self._owes_erasure = not emptied
        return emptied

    async def _write(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        def transact(database: sqlite3.Connection) -> _Result:
            with transaction(database):
                return work(database)

        return await self._writer.run(transact)


class _Outcome(enum.Enum):
    """The result of a write.

    REFUSED: nothing was written, as the tenant's current key is not the one that sealed the record.
    ERASED: written, and some of the voice, or of what can be undone, is gone.
    """

    REFUSED = enum.auto()
    WRITTEN = enum.auto()
    ERASED = enum.auto()


def _put(database: sqlite3.Connection, speaker: NewRecords, expected_etag: str | None) -> _Outcome:
    key = (speaker.tenant, speaker.speaker_id)
    with transaction(database):
        if sqlite_keys.read_current_version(database, speaker.tenant) != speaker.key_version:
            return _Outcome.REFUSED
        if _read_expected_etag(database, *key) != expected_etag:
            raise Aborted("the speaker changed since it was read: read it again and retry")
        shortened = _count_history_bytes(database, *key) > len(speaker.history)
        database.execute(
            "INSERT INTO speaker VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET etag = excluded.etag, profile = excluded.profile, history = excluded.history",
            (*key, speaker.etag, speaker.profile, speaker.history),
        )
        model_ids = [model_id for model_id, _, _ in speaker.voiceprints]
        removed = database.execute(
            "DELETE FROM voiceprint WHERE tenant = ? AND speaker_id = ?"
            " AND model_id NOT IN (SELECT value FROM json_each(?))",
            (*key, json.dumps(model_ids)),
        )
        database.executemany(
            "INSERT INTO voiceprint VALUES (?, ?, ?, ?, ?) ON CONFLICT"
            " DO UPDATE SET record = excluded.record",
            [
                (*key, model_id, used_at, record)
                for model_id, record, used_at in speaker.voiceprints
            ],
        )
        sqlite_tenants.note_opt_out(database, *key, speaker.etag, speaker.opted_out_at)
        return _Outcome.ERASED if shortened or removed.rowcount else _Outcome.WRITTEN


def _delete(
    database: sqlite3.Connection, tenant: str, speaker_id: str, expected_etag: str | None
) -> bool:
    with transaction(database):
        etag = _read_etag(database, tenant, speaker_id)
        if etag is None:
            return False
        if expected_etag not in (None, etag):
            raise Aborted("the speaker changed since it was read: read it again and retry")
        database.execute(
            "DELETE FROM speaker WHERE tenant = ? AND speaker_id = ?", (tenant, speaker_id)
        )
        return True


def _read_etag(database: sqlite3.Connection, tenant: str, speaker_id: str) -> str | None:
    row = database.execute(
        "SELECT etag FROM speaker WHERE tenant = ? AND speaker_id = ?", (tenant, speaker_id)
    ).fetchone()
    return row and str(row[0])


def _read_expected_etag(database: sqlite3.Connection, tenant: str, speaker_id: str) -> str | None:
    """The etag of the record or, after its deletion, of the opt-out that outlives it."""
    etag = _read_etag(database, tenant, speaker_id)
    if etag is None and (opt_out := sqlite_tenants.read_opt_out(database, tenant, speaker_id)):
        return opt_out[0]
    return etag


def _count_history_bytes(database: sqlite3.Connection, tenant: str, speaker_id: str) -> int:
    row = database.execute(
        "SELECT length(history) FROM speaker WHERE tenant = ? AND speaker_id = ?",
        (tenant, speaker_id),
    ).fetchone()
    return int(row[0]) if row else 0


def _parse_rows(rows: Iterable[tuple[Any, ...]]) -> list[StoredRecords]:
    return [
        StoredRecords(
            *(name, etag, profile, history), [row[4:] for row in group if row[4] is not None]
        )
        for (name, etag, profile, history), group in itertools.groupby(
            rows, key=lambda row: row[:4]
        )
    ]
