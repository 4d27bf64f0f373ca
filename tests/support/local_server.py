"""A real server in this process, for tests that need no process of its own.

It is the composition root of `sayso serve`, reached over a real port. Imports and models are paid
for once, not by every server. What belongs to a process (signals, logs, the metrics endpoint, the
exit code, death) is tested with `tests.support.sayso_server`.
"""

import asyncio
import functools
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from unittest import mock

from sayso import Client

from service.inference.session import Session
from service.server import open_server
from service.settings import Settings

_START_S = 60.0
_EXIT_S = 30.0

_Result = TypeVar("_Result")


class _LoopThread:
    """One event loop for all local servers, running while there is any.

    gRPC wakes every loop of a process for every event, so there is one, and none is left behind.
    """

    def __init__(self) -> None:
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        if self._users == 0:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="local-servers")
            self._thread.start()
        self._users += 1

    def release(self) -> None:
        self._users -= 1
        if self._users == 0:
            assert self._loop is not None
            assert self._thread is not None
            self.submit(self._loop.shutdown_default_executor()).result(_EXIT_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_EXIT_S)
            self._loop.close()

    def submit(self, coroutine: Coroutine[Any, Any, _Result]) -> "Future[_Result]":
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


_LOOP_THREAD = _LoopThread()


class LocalServer:
    """Starts on entering; drains when left. Raises `StartupError` if it cannot serve."""

    def __init__(self, *, store: str, listen: object = "127.0.0.1:0", **settings: object) -> None:
        given = {"store": store, "listen": listen, **settings}
        values: dict[str, Any] = {
            name: str(value) if isinstance(value, Path) else value for name, value in given.items()
        }
        self._settings = Settings(**values)
        self.address = ""

    def __enter__(self) -> Self:
        _LOOP_THREAD.acquire()
        started: Future[str] = Future()
        self._serving = _LOOP_THREAD.submit(self._serve(started))
        try:
            self.address = started.result(_START_S)
        except BaseException:
            _LOOP_THREAD.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.terminate()
        finally:
            _LOOP_THREAD.release()

    def client(self, *, timeout_s: float = 30.0) -> Client:
        return Client(self.address, timeout_s=timeout_s)

    def terminate(self) -> None:
        """Drains the server, as on SIGTERM; does nothing if it has ended."""
        self._stop.get_loop().call_soon_threadsafe(self._set_stop)
        self._serving.result(self._settings.drain_s + _EXIT_S)

    def _set_stop(self) -> None:
        if not self._stop.done():
            self._stop.set_result(None)

    async def _serve(self, started: "Future[str]") -> None:
        self._stop = asyncio.get_running_loop().create_future()
        async with AsyncExitStack() as stack:
            try:
                with mock.patch.object(Session, "open", _open_session):
                    running = await stack.enter_async_context(open_server(self._settings))
            except BaseException as error:
                started.set_exception(error)
                return
            started.set_result(running.address)
            await self._stop


_open_from_file = Session.open


def _open_session(path: Path, **options: Any) -> Session:
    """Sessions hold no state of a server, so that all servers of this process share them."""
    if not path.is_file():
        return _open_from_file(path, **options)
    return _open_once(path, path.stat().st_mtime_ns, tuple(sorted(options.items())))


@functools.cache
def _open_once(path: Path, modified_ns: int, options: tuple[tuple[str, Any], ...]) -> Session:
    return _open_from_file(path, **dict(options))
