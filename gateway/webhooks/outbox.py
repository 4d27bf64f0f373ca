"""What the gateway owes its endpoints: a SQLite file that survives its death.

No call is acknowledged on the strength of this file: after a power cut an older state of it is as
good, since the resume token in it is as old and the server sends the events again.
"""

import asyncio
import contextlib
import fcntl
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from sayso import SettingsError

T = TypeVar("T")

LIVE = frozenset({"decision.reached", "decision.changed"})
"""Events that are of use while their call lasts."""

LIVE_S = 3600.0
"""How long one is live if the end of its call is never heard of."""

KEPT_FAILURES = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS progress (one INTEGER PRIMARY KEY CHECK (one = 1), resume_token TEXT);
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY,
    endpoint TEXT NOT NULL,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    request_id TEXT NOT NULL,
    body BLOB NOT NULL,
    created REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt REAL NOT NULL,
    live_until REAL,
    failed REAL,
    error TEXT NOT NULL DEFAULT '',
    UNIQUE (endpoint, event_id)
);
CREATE INDEX IF NOT EXISTS due ON deliveries (endpoint, next_attempt) WHERE failed IS NULL;
CREATE INDEX IF NOT EXISTS pending ON deliveries (endpoint) WHERE failed IS NULL;
CREATE INDEX IF NOT EXISTS failures ON deliveries (failed) WHERE failed IS NOT NULL;
CREATE INDEX IF NOT EXISTS calls ON deliveries (request_id)
    WHERE failed IS NULL AND live_until IS NOT NULL;
CREATE TABLE IF NOT EXISTS gone (endpoint TEXT PRIMARY KEY, url TEXT NOT NULL, since REAL NOT NULL);
"""

_COLUMNS = "number, endpoint, event_id, type, request_id, body, created, attempts, next_attempt"
_COLUMNS += ", live_until, failed, error"


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that an endpoint has not taken yet. Times are in seconds since the epoch; it is not
    tried again after `live_until`, and given up since `failed`."""

    number: int
    endpoint: str
    event_id: str
    type: str
    request_id: str
    body: bytes
    created: float
    attempts: int
    next_attempt: float
    live_until: float | None
    failed: float | None
    error: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much of an endpoint's is pending and failed, and since when the oldest is pending."""

    pending: int
    failed: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event for the outbox."""

    event_id: str
    type: str
    request_id: str
    body: bytes


class Outbox:
    """Synchronous; used by one thread at a time. `max_pending` is for each endpoint: if more wait,
    the oldest fail."""

    def __init__(self, connection: sqlite3.Connection, *, max_pending: int) -> None:
        self._connection = connection
        self._max_pending = max_pending

    def get_token(self) -> str | None:
        """The token to go on with; None before the first was kept."""
        row = self._connection.execute("SELECT resume_token FROM progress").fetchone()
        return row and str(row[0])

    def add(
        self, token: str, event: NewEvent | None, endpoints: Iterable[str], *, now: float
    ) -> int:
        """Keep the token and, for each endpoint, the event before it; how many of older events
        were given up because too many wait. An event that is kept already is not added again, nor
        is one for an endpoint that is gone."""
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO progress VALUES (1, ?)", (token,))
            if event is None:
                return 0
            if event.type == "call.ended":
                self._end_call(event.request_id, now)
            return sum(self._add_one(endpoint, event, now) for endpoint in endpoints)

    def find_due(self, endpoint: str, *, now: float, limit: int) -> list[Delivery]:
        """The deliveries whose time has come, those that have waited longest first."""
        return self._select(
            "endpoint = ? AND failed IS NULL AND next_attempt <= ? ORDER BY next_attempt, number"
            " LIMIT ?",
            (endpoint, now, limit),
        )

    def complete(self, delivery: Delivery) -> None:
        """The endpoint took it."""
        with self._transaction():
            self._connection.execute("DELETE FROM deliveries WHERE number = ?", (delivery.number,))

    def postpone(self, delivery: Delivery, *, until: float, error: str, now: float) -> bool:
        """An attempt failed: try again, unless its call is over by then. Whether it is."""
        with self._transaction():
            self._connection.execute(
                "UPDATE deliveries SET attempts = attempts + 1, next_attempt = ?, error = ?"
                " WHERE number = ?",
                (until, error, delivery.number),
            )
            return not self._fail(
                "number = ? AND live_until < ?",
                (delivery.number, until),
                "its call is over",
                now,
            )

    def fail(self, delivery: Delivery, *, error: str, now: float) -> None:
        """An attempt failed and was the last."""
        with self._transaction():
            self._connection.execute(
                "UPDATE deliveries SET attempts = attempts + 1, error = ? WHERE number = ?",
                (error, delivery.number),
            )
            self._fail("number = ?", (delivery.number,), "given up", now)

    def mark_gone(self, endpoint: str, url: str, *, now: float) -> None:
        """The endpoint said that it is gone for good: give up what it has not taken."""
        with self._transaction():
            self._connection.execute(
                "INSERT OR REPLACE INTO gone VALUES (?, ?, ?)", (endpoint, url, now)
            )
            self._fail("endpoint = ?", (endpoint,), "the endpoint is gone", now)

    def is_gone(self, endpoint: str) -> bool:
        """Whether it said so."""
        query = "SELECT 1 FROM gone WHERE endpoint = ?"
        return self._connection.execute(query, (endpoint,)).fetchone() is not None

    def enable(self, endpoint: str) -> bool:
        """Forget that the endpoint said that it is gone; whether it had."""
        with self._transaction():
            query = "DELETE FROM gone WHERE endpoint = ?"
            return self._connection.execute(query, (endpoint,)).rowcount > 0

    def retain(self, urls: Mapping[str, str], *, now: float) -> None:
        """Give up what waits for endpoints other than these, given by name with their URLs; one
        that was gone at another URL may be there again."""
        marks = ", ".join("?" * len(urls))
        with self._transaction():
            where = f"endpoint NOT IN ({marks})"
            self._fail(where, tuple(urls), "the endpoint is disabled or not configured", now)
            for endpoint, url in urls.items():
                query = "DELETE FROM gone WHERE endpoint = ? AND url <> ?"
                self._connection.execute(query, (endpoint, url))

    def list_failures(self, endpoint: str | None = None) -> list[Delivery]:
        """What was given up, the newest last."""
        return self._select(
            "failed IS NOT NULL AND endpoint = coalesce(?, endpoint) ORDER BY failed, number",
            (endpoint,),
        )

    def replay(self, endpoint: str | None, event_ids: Sequence[str], *, now: float) -> int:
        """Deliver anew what was given up, of these events or of all; how many. The call of an event
        does not matter any more."""
        marks = ", ".join("?" * len(event_ids))
        chosen = f"AND event_id IN ({marks})" if event_ids else ""
        with self._transaction():
            return self._connection.execute(
                "UPDATE deliveries SET failed = NULL, attempts = 0, next_attempt = ?,"  # noqa: S608 - marks only
                " live_until = NULL WHERE failed IS NOT NULL AND endpoint = coalesce(?, endpoint)"
                + chosen,
                (now, endpoint, *event_ids),
            ).rowcount

    def count(self, endpoint: str) -> Backlog:
        """How much waits for an endpoint."""
        row = self._connection.execute(
            "SELECT count(*) FILTER (WHERE failed IS NULL), count(failed),"
            " min(created) FILTER (WHERE failed IS NULL) FROM deliveries WHERE endpoint = ?",
            (endpoint,),
        ).fetchone()
        return Backlog(*row)

    def _add_one(self, endpoint: str, event: NewEvent, now: float) -> int:
        live_until = now + LIVE_S if event.type in LIVE else None
        self._connection.execute(
            "INSERT INTO deliveries (endpoint, event_id, type, request_id, body, created,"
            " next_attempt, live_until) SELECT ?, ?, ?, ?, ?, ?, ?, ?"
            " WHERE NOT EXISTS (SELECT 1 FROM gone WHERE endpoint = ?)"
            " ON CONFLICT (endpoint, event_id) DO NOTHING",
            (
                endpoint,
                event.event_id,
                event.type,
                event.request_id,
                event.body,
                now,
                now,
                live_until,
                endpoint,
            ),
        )
        return self._fail(
            "endpoint = ? AND number IN (SELECT number FROM deliveries WHERE endpoint = ? AND"
            " failed IS NULL ORDER BY number DESC LIMIT -1 OFFSET ?)",
            (endpoint, endpoint, self._max_pending),
            "too many events wait",
            now,
        )

    def _end_call(self, request_id: str, now: float) -> None:
        """Try no live event of the call again; one that was never tried has its first attempt."""
        where = "request_id = ? AND live_until IS NOT NULL"
        self._fail(f"{where} AND attempts > 0", (request_id,), "its call is over", now)
        self._connection.execute(
            f"UPDATE deliveries SET live_until = ? WHERE {where} AND failed IS NULL",  # noqa: S608 - constant
            (now, request_id),
        )

    def _fail(self, where: str, values: Sequence[object], reason: str, now: float) -> int:
        """Give up what is pending of a selection, and forget the oldest failures over the limit."""
        failed = self._connection.execute(
            "UPDATE deliveries SET failed = ?,"  # noqa: S608 - constant conditions
            " error = ? || CASE error WHEN '' THEN '' ELSE '; last: ' || error END"
            f" WHERE failed IS NULL AND {where}",
            (now, reason, *values),
        ).rowcount
        if failed:
            self._connection.execute(
                "DELETE FROM deliveries WHERE number IN (SELECT number FROM deliveries WHERE"
                " failed IS NOT NULL ORDER BY failed DESC, number DESC LIMIT -1 OFFSET ?)",
                (KEPT_FAILURES,),
            )
        return failed

    def _select(self, where: str, values: Sequence[object]) -> list[Delivery]:
        query = f"SELECT {_COLUMNS} FROM deliveries WHERE {where}"  # noqa: S608 - constants
        return [Delivery(*row) for row in self._connection.execute(query, values)]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


class OutboxThread:
    """An outbox in a thread of its own, so that a slow disk does not hold up audio."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._thread = ThreadPoolExecutor(1, "webhooks")

    async def ask(self, ask: Callable[[Outbox], T]) -> T:
        """What `ask` returns or raises, of the outbox."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, ask, self._outbox)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()


@contextlib.contextmanager
def open_outbox(path: Path, max_pending: int = 10_000) -> Iterator[Outbox]:
    """Open the file, or make it, readable by its owner alone; raises `SettingsError`."""
    try:
        path.touch(mode=0o600)
        connection = sqlite3.connect(
            path, timeout=10.0, isolation_level=None, check_same_thread=False
        )
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(f"the state of webhooks, {path}, cannot be opened: {error}") from error
    with contextlib.closing(connection):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise SettingsError(f"{path} is no state of webhooks: {error}") from error
        yield Outbox(connection, max_pending=max_pending)


@contextlib.contextmanager
def hold_alone(path: Path) -> Iterator[None]:
    """Keep a second gateway from delivering the same; raises `SettingsError`."""
    lock = path.with_name(path.name + ".lock")
    try:
        file = lock.open("w")
    except OSError as error:
        raise SettingsError(f"{lock} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(
                f"another gateway delivers the webhooks of {path}: give each a file of its own"
            ) from error
        yield
