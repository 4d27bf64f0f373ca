"""Batcher: run the items of many callers in batches, whatever an item is.

    submit -> queue, owners in turn -> batch of one key -> worker thread -> each caller's result

A batch starts as soon as a worker is idle, so items collect only while all workers are busy; idle
workers share the items that wait. Owners take turns, one item each, and the items of one owner run
in order of arrival, so an owner of many items delays only itself. While enough items for a batch
wait, one batch is queued for each busy worker, which then continues without the event loop.
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

_INITIAL_ITEM_S = 0.05  # assumed seconds of an item, until the first batch is measured
_SMOOTHING = 0.2


@dataclass(frozen=True, slots=True)
class BatchReport:
    """How many items a batch had, how long the oldest one waited, and how long `run` took."""

    size: int
    waited_s: float
    ran_s: float


@dataclass(slots=True, eq=False)
class _Group(Generic[Result]):
    """The items of one caller: its future gets the results by item index, once all are there."""

    future: asyncio.Future[dict[int, Result]]
    count: int
    results: dict[int, Result] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for the results any longer."""
        return self.future.done()

    def add_result(self, index: int, result: Result) -> None:
        self.results[index] = result
        if len(self.results) == self.count and not self.is_over:
            self.future.set_result(self.results)


@dataclass(frozen=True, slots=True, eq=False)
class _Entry(Generic[Item, Result]):
    item: Item
    key: Hashable
    owner: str
    arrived_s: float
    group: _Group[Result]
    index: int


_Batch: TypeAlias = tuple[_Entry[Item, Result], ...]
_BatchResults: TypeAlias = tuple[list[tuple[_Entry[Item, Result], Result]], BatchReport]


class Batcher(Generic[Item, Result]):
    """Calls `run` on batches of items of equal `key`: that of the item whose turn is next.

    `run` returns one result per item, in order, and is called in one of `workers` threads. At most
    `queue_limit` items wait; beyond that, each owner may still have its share of the queue. With
    `max_delay_s` above 0, an idle worker waits for a batch to fill, at most that long since the
    arrival of its oldest item. `observe` is called with a report of every batch, on the event loop.
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
        # By owner, the one whose turn is next first; for each owner in order of arrival.
        self._waiting: dict[str, dict[_Entry[Item, Result], None]] = {}
        self._jobs: list[_Batch[Item, Result]] = []  # in order of start; the first `workers` run
        self._settled = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._item_s = _INITIAL_ITEM_S

    @property
    def queue_depth(self) -> int:
        """The number of items that wait for a worker, those in queued batches included."""
        return self._waiting_count + sum(map(len, self._queued_batches))

    @property
    def _waiting_count(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def _queued_batches(self) -> Iterable[_Batch[Item, Result]]:
        """The batches that wait for a busy worker."""
        return islice(self._jobs, self._workers, None)

    async def __aenter__(self) -> Self:
        self._accepting = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """Refuse new items, finish the admitted ones, and stop the workers."""
        self._accepting = False
        try:
            self._dispatch()
            while self._jobs:
                self._settled.clear()
                await self._settled.wait()
        finally:
            for entry in self._list_in_turn():
                entry.group.future.cancel()
            self._threads.close()

    async def submit(self, item: Item, *, owner: str = "") -> Result:
        """Return the result of `item`; raises as `submit_all` does."""
        [result] = await self.submit_all([item], owner=owner)
        return result

    async def submit_all(self, items: Sequence[Item], *, owner: str = "") -> list[Result]:
        """Return the results of `items`, in order; either all are admitted or none.

        Raises `Overloaded` if they do not fit in the queue, `Unavailable` outside of `async with`,
        and whatever `run` raised for a batch with one of them.
        """
        if not items:
            return []
        group = _Group[Result](asyncio.get_running_loop().create_future(), len(items))
        entries = self._admit(items, owner, group)
        try:
            results = await group.future
            return [results[index] for index in range(len(items))]
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
        if not self._has_room(len(items), owner):
            raise Overloaded("the server is at its limit", retry_after_s=self._retry_after_s())
        loop = asyncio.get_running_loop()
        now = loop.time()
        entries = [
            _Entry(item, self._key(item), owner, now, group, index)
            for index, item in enumerate(items)
        ]
        self._waiting.setdefault(owner, {}).update(dict.fromkeys(entries))
        loop.call_soon(self._dispatch)  # after every caller that is ready now has submitted
        return entries

    def _has_room(self, count: int, owner: str) -> bool:
        """Whether `count` more items may wait. An owner gets its share of the queue even if others
        have filled it."""
        if self.queue_depth + count <= self._queue_limit:
            return True
        own = len(self._waiting.get(owner, ()))
        own += sum(entry.owner == owner for batch in self._queued_batches for entry in batch)
        share = self._queue_limit // len(self._waiting.keys() | {owner})
        return own + count <= share

    def _remove(self, entries: Iterable[_Entry[Item, Result]]) -> None:
        """Remove those of `entries` that still wait from the queue."""
        for entry in entries:
            waiting = self._waiting.get(entry.owner)
            if waiting is not None and entry in waiting:
                del waiting[entry]
                if not waiting:
                    del self._waiting[entry.owner]

    def _retry_after_s(self) -> float:
        return max(1, self.queue_depth) * self._item_s / self._workers

    def _dispatch(self) -> None:
        """Give batches to idle workers, and set a timer for when the oldest item is due."""
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting and len(self._jobs) < self._workers:
            if not (batch := self._take_due()):
                oldest_s = min(next(iter(entries)).arrived_s for entries in self._waiting.values())
                due_s = oldest_s + self._max_delay_s
                self._timer = asyncio.get_running_loop().call_at(due_s, self._dispatch)
                return
            self._start(batch)
        while self._waiting_count >= self._max_batch and len(self._jobs) < 2 * self._workers:
            if not (batch := self._take_first()):
                return
            self._start(batch)

    def _take_due(self) -> _Batch[Item, Result]:
        """Return the first batch in turn that is full or due, less the items that other idle
        workers can take; empty if there is none."""
        now = asyncio.get_running_loop().time()
        idle = self._workers - len(self._jobs)
        for batch in self._group_by_key():
            due = _find_oldest_s(batch) + self._max_delay_s <= now or not self._accepting
            if due or len(batch) >= self._max_batch:
                return tuple(batch[: min(self._max_batch, math.ceil(len(batch) / idle))])
        return ()

    def _take_first(self) -> _Batch[Item, Result]:
        """Return the batch of the item whose turn is next."""
        return tuple(next(iter(self._group_by_key()), [])[: self._max_batch])

    def _group_by_key(self) -> Iterable[list[_Entry[Item, Result]]]:
        """Group the waiting items by key, in the order of their turns, without abandoned items."""
        batches: dict[Hashable, list[_Entry[Item, Result]]] = {}
        for entry in self._list_in_turn():
            if not entry.group.is_over:
                batches.setdefault(entry.key, []).append(entry)
        return batches.values()

    def _list_in_turn(self) -> Iterator[_Entry[Item, Result]]:
        """Iterate over the first waiting item of each owner, then the second of each, and so on."""
        rounds = chain.from_iterable(zip_longest(*self._waiting.values()))
        return (entry for entry in rounds if entry is not None)

    def _start(self, batch: _Batch[Item, Result]) -> None:
        self._remove(batch)
        for owner in dict.fromkeys(entry.owner for entry in batch):
            if (waiting := self._waiting.pop(owner, None)) is not None:
                self._waiting[owner] = waiting  # behind the owners whose turn is still to come
        self._jobs.append(batch)
        clock = asyncio.get_running_loop().time
        results = self._threads.run(self._run_batch, batch, clock)
        results.add_done_callback(partial(self._settle, batch))

    def _run_batch(
        self, batch: _Batch[Item, Result], clock: Callable[[], float]
    ) -> _BatchResults[Item, Result]:
        """Run a batch in a worker thread, without the items abandoned while it was queued."""
        started_s = clock()
        entries = [entry for entry in batch if not entry.group.is_over]
        results = self._run([entry.item for entry in entries]) if entries else []
        pairs = list(zip(entries, results, strict=True))
        waited_s = started_s - _find_oldest_s(batch)
        return pairs, BatchReport(len(entries), waited_s, clock() - started_s)

    def _settle(
        self, batch: _Batch[Item, Result], finished: "asyncio.Future[_BatchResults[Item, Result]]"
    ) -> None:
        """Give every caller that still waits its own results, or the batch's error."""
        self._jobs.remove(batch)
        self._settled.set()
        if (error := finished.exception()) is not None:
            for entry in batch:
                if not entry.group.is_over:
                    entry.group.future.set_exception(copy_for_caller(error))
        else:
            pairs, report = finished.result()
            for entry, result in pairs:
                entry.group.add_result(entry.index, result)
            self._report(report)
        self._dispatch()

    def _report(self, report: BatchReport) -> None:
        if not report.size:
            return
        self._item_s += _SMOOTHING * (report.ran_s / report.size - self._item_s)
        if self._observe is not None:
            self._observe(report)


def _find_oldest_s(batch: Sequence[_Entry[Item, Result]]) -> float:
    return min(entry.arrived_s for entry in batch)
