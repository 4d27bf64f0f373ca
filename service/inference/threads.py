"""A pool of threads for work off the event loop, shared fairly among owners of work."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

Given = TypeVarTuple("Given")
Result = TypeVar("Result")


class Threads:
    """Runs work in at most `count` threads. They start with the first work; the process waits for
    them to finish it before it exits.

    Owners take turns, one piece of work each, so that an owner with much work delays only itself.
    """

    def __init__(self, count: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._lock = threading.Lock()
        # By owner, the one whose turn is next first.
        self._waiting: dict[str, deque[tuple[Future[Any], Callable[[], Any]]]] = {}

    def run(
        self, work: Callable[[*Given], Result], *given: *Given, owner: str = ""
    ) -> asyncio.Future[Result]:
        """Return a future of `work(*given)`. Cancelling it before the work starts drops the work.

        Raises RuntimeError after `close`.
        """
        future = Future[Result]()
        with self._lock:
            self._pool.submit(self._run_next)
            self._waiting.setdefault(owner, deque()).append((future, partial(work, *given)))
        return asyncio.wrap_future(future)

    def close(self) -> None:
        """Refuse further work. The threads finish the work they have; nobody waits for them."""
        self._pool.shutdown(wait=False)

    def _run_next(self) -> None:
        future, work = self._take_next()
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error)
            # The traceback keeps this frame alive, and with it the arguments of the work.
            del future, work
        else:
            future.set_result(result)

    def _take_next(self) -> tuple[Future[Any], Callable[[], Any]]:
        """Take the oldest work of the first owner, who then goes behind the others."""
        with self._lock:
            owner = next(iter(self._waiting))
            works = self._waiting.pop(owner)
            work = works.popleft()
            if works:
                self._waiting[owner] = works
            return work
