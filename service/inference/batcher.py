"""Merges the items of many callers into batches; knows nothing of what an item is.

    submit > waiting, owners in turn > batch of one key > worker thread > each its own result

A batch leaves as soon as a worker is idle, so items gather only while all workers are busy; idle
workers share what waits. Owners of items take turns, an item each, and those of one owner leave in
order of arrival, so one who has many makes only its own wait. While a batch's worth of items waits,
one batch is ahead for each busy worker, which then goes on without asking the event loop.
"""

import asyncio
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice, zip_longest
from typing import Generic, Self, TypeAlias, TypeVar

from service.errors import Overloaded, Unavailable, copy_for_caller
from service.inference.threads import Threads

Item = TypeVar("Item")
Result = TypeVar("Result")

_FIRST_GUESS_S = 0.05  # seconds an item takes, until the first batch has told
_SMOOTHING = 0.2


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What a batch cost: how long its oldest item waited, and how long `run` took."""

    size: int
    waited_s: float
    ran_s: float


@dataclass(slots=True, eq=False)
class _Group(Generic[Result]):
    """What one caller waits for: the results by the place of their items, once all are there."""

    future: asyncio.Future[dict[int, Result]]
    wanted: int
    found: dict[int, Result] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether nobody waits any longer."""
        return self.future.done()

    def give(self, place: int, result: Result) -> None:
        self.found[place] = result
        if len(self.found) == self.wanted and not self.over:
            self.future.set_result(self.found)


@dataclass(frozen=True, slots=True, eq=False)
class _Entry(Generic[Item, Result]):
    item: Item
    key: Hashable
    owner: str
    arrived_s: float
    group: _Group[Result]
    place: int


_Batch: TypeAlias = tuple[_Entry[Item, Result], ...]
_Done: TypeAlias = tuple[list[tuple[_Entry[Item, Result], Result]], BatchReport]


class Batcher(Generic[Item, Result]):
    """Calls `run` on batches of items of equal `key`, the key of the item first in turn.

    `run` returns one result per item, in order, and is called in one of `workers` threads.
    At most `queue_limit` items wait, beyond which each owner may still have its share. With
    `max_delay_s` above 0 an idle worker waits for a batch to fill, but no longer than that from the
    arrival of its oldest item. `observe` is told of every batch, on the event loop.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Iterable[Result]],
        *,
        key: Callable[[Item], Hashable],
        max_batch: int,
        queue_limit: int,
        max_delay_s: float = 0.0,
        workers: int = 1,
        observe: Callable[[BatchReport], None] | None = None,
    ) -> None:
        if min(max_batch, queue_limit, workers) < 1 or max_delay_s < 0:
            raise ValueError("max_batch, queue_limit and workers start at 1, max_delay_s at 0")
        self._run = run
        self._key = key
        self._max_batch = max_batch
        self._queue_limit = queue_limit
        self._max_delay_s = max_delay_s
        self._workers = workers
        self._observe = observe
        self._threads = Threads(workers, name="batcher")
        self._accepting = False
        # By owner, the one whose turn it is first; of each in order of arrival.
        self._waiting: dict[str, dict[_Entry[Item, Result], None]] = {}
        self._jobs: list[_Batch[Item, Result]] = []  # in order of start; as many run as can
        self._settled = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._item_s = _FIRST_GUESS_S

    @property
    def queue_depth(self) -> int:
        """Items that wait for a worker, also in a batch that is ahead."""
        return self._waiting_count + sum(map(len, self._ahead))

    @property
    def _waiting_count(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def _ahead(self) -> Iterable[_Batch[Item, Result]]:
        """Batches that wait for a busy worker."""
        return islice(self._jobs, self._workers, None)

    async def __aenter__(self) -> Self:
        self._accepting = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """Refuses new items, finishes those that were admitted, and stops the workers."""
        self._accepting = False
        try:
            self._dispatch()
            while self._jobs:
                self._settled.clear()
                await self._settled.wait()
        finally:
            for entry in self._in_turn():
                entry.group.future.cancel()
            self._threads.close()

    async def submit(self, item: Item, *, owner: str = "") -> Result:
        """The result of `item`; raises what `submit_all` raises."""
        [result] = await self.submit_all([item], owner=owner)
        return result

    async def submit_all(self, items: Sequence[Item], *, owner: str = "") -> list[Result]:
        """The results of `items`, in order; all are admitted or none is.

        Raises `Overloaded` when they do not fit in the queue, `Unavailable` outside of
        `async with`, and whatever `run` raised for a batch that held one of them.
        """
        if not items:
            return []
        group = _Group[Result](asyncio.get_running_loop().create_future(), len(items))
        entries = self._admit(items, owner, group)
        try:
            found = await group.future
            return [found[place] for place in range(len(items))]
        finally:
            group.future.cancel()
            self._remove(entries)

    def _admit(
        self, items: Sequence[Item], owner: str, group: _Group[Result]
    ) -> list[_Entry[Item, Result]]:
        if not self._accepting:
            raise Unavailable("the server is starting or stopping; try again")
        if len(items) > self._queue_limit:
            raise ValueError(f"{len(items)} items never fit in a queue of {self._queue_limit}")
        if not self._fit(len(items), owner):
            raise Overloaded("the server is at its limit", retry_after_s=self._retry_after_s())
        loop = asyncio.get_running_loop()
        now = loop.time()
        entries = [
            _Entry(item, self._key(item), owner, now, group, place)
            for place, item in enumerate(items)
        ]
        self._waiting.setdefault(owner, {}).update(dict.fromkeys(entries))
        loop.call_soon(self._dispatch)  # after every caller that is ready now has submitted
        return entries

    def _fit(self, count: int, owner: str) -> bool:
        """Whether so many more items may wait. An owner is not refused its share of the queue
        because others have filled it."""
        if self.queue_depth + count <= self._queue_limit:
            return True
        own = len(self._waiting.get(owner, ()))
        own += sum(entry.owner == owner for batch in self._ahead for entry in batch)
        share = self._queue_limit // len(self._waiting.keys() | {owner})
        return own + count <= share

    def _remove(self, entries: Iterable[_Entry[Item, Result]]) -> None:
        """Lets go of those of `entries` that wait."""
        for entry in entries:
            waiting = self._waiting.get(entry.owner)
            if waiting is not None and entry in waiting:
                del waiting[entry]
                if not waiting:
                    del self._waiting[entry.owner]

    def _retry_after_s(self) -> float:
        return max(1, self.queue_depth) * self._item_s / self._workers

    def _dispatch(self) -> None:
        """Hands batches to idle workers, and looks again when the oldest item is due."""
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting and len(self._jobs) < self._workers:
            if not (batch := self._ready()):
                oldest_s = min(next(iter(each)).arrived_s for each in self._waiting.values())
                due_s = oldest_s + self._max_delay_s
                self._timer = asyncio.get_running_loop().call_at(due_s, self._dispatch)
                return
            self._start(batch)
        while self._waiting_count >= self._max_batch and len(self._jobs) < 2 * self._workers:
            if not (batch := self._first()):
                return
            self._start(batch)

    def _ready(self) -> _Batch[Item, Result]:
        """The first batch in turn that is full or due, less what other idle workers can take of
        it."""
        now = asyncio.get_running_loop().time()
        idle = self._workers - len(self._jobs)
        for batch in self._batches():
            due = _oldest_s(batch) + self._max_delay_s <= now or not self._accepting
            if due or len(batch) >= self._max_batch:
                return tuple(batch[: min(self._max_batch, math.ceil(len(batch) / idle))])
        return ()

    def _first(self) -> _Batch[Item, Result]:
        """The batch of the item first in turn."""
        return tuple(next(iter(self._batches()), [])[: self._max_batch])

    def _batches(self) -> Iterable[list[_Entry[Item, Result]]]:
        """What waits by key, that of the item first in turn first; without abandoned items."""
        batches: dict[Hashable, list[_Entry[Item, Result]]] = {}
        for entry in self._in_turn():
            if not entry.group.over:
                batches.setdefault(entry.key, []).append(entry)
        return batches.values()

    def _in_turn(self) -> Iterator[_Entry[Item, Result]]:
        """All that waits: the first item of each owner, then the second of each, and so on."""
        rounds = chain.from_iterable(zip_longest(*self._waiting.values()))
        return (entry for entry in rounds if entry is not None)

    def _start(self, batch: _Batch[Item, Result]) -> None:
        self._remove(batch)
        for owner in dict.fromkeys(entry.owner for entry in batch):
            if (waiting := self._waiting.pop(owner, None)) is not None:
                self._waiting[owner] = waiting  # behind those whose turn has not come
        self._jobs.append(batch)
        clock = asyncio.get_running_loop().time
        running = self._threads.run(self._done, batch, clock)
        running.add_done_callback(partial(self._settle, batch))

    def _done(self, batch: _Batch[Item, Result], clock: Callable[[], float]) -> _Done[Item, Result]:
        """In a worker: the results of a batch, less what was abandoned while it was ahead."""
        started_s = clock()
        wanted = [entry for entry in batch if not entry.group.over]
        results = self._run([entry.item for entry in wanted]) if wanted else []
        pairs = list(zip(wanted, results, strict=True))
        waited_s = started_s - _oldest_s(batch)
        return pairs, BatchReport(len(wanted), waited_s, clock() - started_s)

    def _settle(
        self, batch: _Batch[Item, Result], finished: "asyncio.Future[_Done[Item, Result]]"
    ) -> None:
        """Gives every caller that still waits its own results, or the batch's error."""
        self._jobs.remove(batch)
        self._settled.set()
        if (error := finished.exception()) is not None:
            for entry in batch:
                if not entry.group.over:
                    entry.group.future.set_exception(copy_for_caller(error))
        else:
            pairs, report = finished.result()
            for entry, result in pairs:
                entry.group.give(entry.place, result)
            self._report(report)
        self._dispatch()

    def _report(self, report: BatchReport) -> None:
        if not report.size:
            return
        self._item_s += _SMOOTHING * (report.ran_s / report.size - self._item_s)
        if self._observe is not None:
            self._observe(report)


def _oldest_s(batch: Sequence[_Entry[Item, Result]]) -> float:
    return min(entry.arrived_s for entry in batch)
