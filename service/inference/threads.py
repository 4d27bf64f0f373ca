"""Threads: work off the event loop, and back by the shortest way.

    loop -> queue -> thread -> loop

Owners of work take turns: one who has much of it makes only its own wait.

`ThreadPoolExecutor` makes two futures, with a lock and a condition, for every piece of work: more
work than a message of 20 ms needs a thread for.
"""

import asyncio
import atexit
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TypeAlias, TypeVar, TypeVarTuple

Given = TypeVarTuple("Given")
Result = TypeVar("Result")

Told: TypeAlias = Callable[[Result | None, BaseException | None], None]
"""Takes what some work returned, or what it raised."""

_Job: TypeAlias = Callable[[], None]


class _Turns:
    """Jobs by owner, the owner whose turn it is first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, deque[_Job]] = {}

    def put(self, owner: str, job: _Job) -> None:
        with self._lock:
            self._jobs.setdefault(owner, deque()).append(job)

    def take(self) -> _Job:
        """The oldest job of the first owner, who then goes behind the others."""
        with self._lock:
            owner = next(iter(self._jobs))
            jobs = self._jobs.pop(owner)
            job = jobs.popleft()
            if jobs:
                self._jobs[owner] = jobs
            return job


class Threads:
    """So many threads, which start with the first work and end when closed, or with the process,
    which waits for what they were given."""

    def __init__(self, count: int, *, name: str) -> None:
        self._turns = _Turns()
        self._queue: SimpleQueue[bool] = SimpleQueue()  # True for each job, False for the end
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}_{number}", daemon=True)
            for number in range(count)
        ]
        self._started = self._closed = False

    def run(
        self, work: Callable[[*Given], Result], *given: *Given, owner: str = ""
    ) -> "asyncio.Future[Result]":
        """What `work` returns or raises; it is not begun once the future is cancelled."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        done = partial(_settle, future)
        self.call(done, partial(_unless_done, future, work, *given), owner=owner)
        return future

    def call(
        self, told: Told[Result], work: Callable[[], Result | None], *, owner: str = ""
    ) -> None:
        """Calls `told` on the loop with what came of `work`; raises RuntimeError once closed."""
        if self._closed:
            raise RuntimeError("no work is taken by threads that are closed")
        if not self._started:
            self._started = True
            _working.add(self)
            for thread in self._threads:
                thread.start()
        self._turns.put(owner, partial(_work, asyncio.get_running_loop(), told, work))
        self._queue.put(True)

    def close(self) -> None:
        """Ends them once they have done what they were given, and waits for none."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(False)

    def join(self) -> None:
        """Closes them and waits."""
        self.close()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while self._queue.get():
            self._turns.take()()  # under no name, which would hold it until the next


_working = weakref.WeakSet[Threads]()


@atexit.register
def _end() -> None:
    """A thread that is inside of a library while the interpreter is taken down may end it badly."""
    for each in list(_working):
        each.join()


def _work(
    loop: asyncio.AbstractEventLoop, told: Told[Result], work: Callable[[], Result | None]
) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed: nobody wants to know
        try:
            result = work()
        except BaseException as error:  # whatever it is, it belongs to who asked for the work
            loop.call_soon_threadsafe(told, None, error)
        else:
            loop.call_soon_threadsafe(told, result, None)
        finally:
            del told, work  # an error has this frame, and would hold who is told of it


def _unless_done(
    future: "asyncio.Future[Result]", work: Callable[[*Given], Result], *given: *Given
) -> Result | None:
    try:
        return None if future.done() else work(*given)
    finally:
        del future, work, given  # as there


def _settle(
    future: "asyncio.Future[Result]", result: Result | None, error: BaseException | None
) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)  # type: ignore[arg-type]  # None only where that is the result
