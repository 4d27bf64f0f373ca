"""What changes in Redis, told over a connection of its own (`CLIENT TRACKING`).

    watch(key)     Redis remembers the key for this connection, and tells once when it changes
    confirm()      once it is true, all that had changed before it was called has been told

Redis puts the notice of a change into this connection's stream while it runs the command that makes
the change, so before the writer has its reply, and the answer to a command that comes after into
the same stream behind it. The command that confirms is a write of nothing: a server that has become
a replica, where changes arrive late, refuses it. (Of two that both hold themselves for the master,
until Sentinel has demoted one, either may be read from, with a cache or without.)

Not `BCAST`: its notices wait for the end of a turn of Redis, and with several I/O threads a writer
may have its reply before that.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from service.store.redis.line import Line, Notice, Value

_TRACK = (b"CLIENT", b"TRACKING", b"ON")
_WRITE_NOTHING = (b"DEL", b"sayso:nothing")
_CONNECT_S = 5.0
_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 1.0

log = logging.getLogger(__name__)


class Tracking:
    """Tells `changed` of each watched key that changes, and None when any of them may have: all
    keys of the server were dropped, or the connection was lost and nothing is watched any more.

    Entered with `async with` it connects, and again whenever the connection is lost, also to a
    server that leaves a question unanswered for `timeout_s`.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Line]],
        changed: Callable[[bytes | None], None],
        *,
        timeout_s: float,
    ) -> None:
        self._connect = connect
        self._changed = changed
        self._timeout_s = timeout_s
        self._line: Line | None = None
        self._asked: deque[asyncio.Future[bool]] = deque()
        self._confirmation: asyncio.Future[bool] | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None, "it was entered"
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def watch(self, *keys: bytes) -> bool:
        """Whether these keys are watched from here on."""
        return await self._answered(self._ask(b"EXISTS", *keys))

    async def confirm(self) -> bool:
        """Whether all that had changed when this was called has been told; asked once for all that
        call it in the same turn of the event loop."""
        if self._confirmation is None:
            loop = asyncio.get_running_loop()
            self._confirmation = loop.create_future()
            loop.call_soon(self._confirm)
        return await self._answered(self._confirmation)

    def _confirm(self) -> None:
        confirmation, self._confirmation = self._confirmation, None
        if confirmation is not None:
            self._send(confirmation, *_WRITE_NOTHING)

    def _ask(self, *words: bytes) -> asyncio.Future[bool]:
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._send(answer, *words)
        return answer

    def _send(self, answer: asyncio.Future[bool], *words: bytes) -> None:
        if self._line is None:
            answer.set_result(False)
            return
        self._asked.append(answer)
        self._line.send(*words)

    async def _answered(self, answer: asyncio.Future[bool]) -> bool:
        done, _ = await asyncio.wait({answer}, timeout=self._timeout_s)
        if not done:
            self._lose()
        return answer.result()

    async def _follow(self) -> None:
        pause_s, known = _FIRST_PAUSE_S, ""
        while True:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    line = await self._connect()
                pause_s, known = _FIRST_PAUSE_S, ""
                await self._listen(line)
            except Exception as error:  # whatever it is, the store answers in place of the cache
                if type(error).__name__ != known:
                    known = type(error).__name__
                    log.warning("speakers are not cached for now: %s %s", known, error)
            finally:
                self._lose()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    async def _listen(self, line: Line) -> None:
        try:
            line.send(*_TRACK)
            async with asyncio.timeout(_CONNECT_S):
                await line.read()
            self._line = line
            while True:
                self._take(await line.read())
        finally:
            line.close()

    def _take(self, said: "Value | Notice") -> None:
        if not isinstance(said, Notice):
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_result(True)
        elif said.kind == b"invalidate":
            [keys] = said.body
            for key in keys if isinstance(keys, list) else [None]:
                self._changed(key if isinstance(key, bytes) else None)

    def _lose(self) -> None:
        """Nothing is watched any more, and no answer will come."""
        if self._line is not None:
            self._line.close()
            self._line = None
        waiting = [*self._asked, *([self._confirmation] if self._confirmation else [])]
        self._asked.clear()
        self._confirmation = None
        for answer in waiting:
            if not answer.done():
                answer.set_result(False)
        self._changed(None)
