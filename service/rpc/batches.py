"""Enrolling many recordings on one stream: side by side, in bounded memory.

    request ─> a free slot? ─> decode, embed ─> its speaker's turn? ─> add ─> answer
                     ^──────────────── once the answer is taken ─────────────────┘

The items of one speaker are added in the order of the requests; answers come as they are ready.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import grpc
from sayso.v1 import verification_pb2 as pb

from service.errors import SaysoError

Turn: TypeAlias = Callable[[], Awaitable[None]]
Enroll: TypeAlias = Callable[[pb.BatchEnrollRequest, Turn], Awaitable[pb.EnrollResponse]]

log = logging.getLogger(__name__)


class Batch:
    """The items of one stream: those in work, at most `at_once`, hold a slot each until their
    answer is taken. `enroll` waits for the turn that it is given before it adds."""

    def __init__(self, enroll: Enroll, *, at_once: int) -> None:
        self._enrol = enroll
        self._slots = asyncio.Semaphore(at_once)
        self._ready = asyncio.Queue[pb.BatchEnrollResponse | None]()
        self._at_work: dict[str, list[asyncio.Event]] = {}

    async def answers(
        self, requests: AsyncIterator[pb.BatchEnrollRequest]
    ) -> AsyncIterator[pb.BatchEnrollResponse]:
        """One answer an item, also for one that failed; closing it cancels what is in work."""
        reader = asyncio.create_task(self._read(requests))
        try:
            while (answer := await self._ready.get()) is not None:
                yield answer
                self._slots.release()
            await reader
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[pb.BatchEnrollRequest]) -> None:
        """Starts each item once there is a slot for it; None follows the last answer.

        Raises, after that, the `SaysoError` that a request could not be read for.
        """
        unread: SaysoError | None = None
        try:
            async with asyncio.TaskGroup() as items:
                try:
                    await self._start(items, requests)
                except SaysoError as error:
                    unread = error
        finally:
            self._ready.put_nowait(None)
        if unread is not None:
            raise unread

    async def _start(
        self, items: asyncio.TaskGroup, requests: AsyncIterator[pb.BatchEnrollRequest]
    ) -> None:
        index = 0
        await self._slots.acquire()
        async for request in requests:
            items.create_task(self._answer(index, request))
            index += 1
            await self._slots.acquire()

    async def _answer(self, index: int, request: pb.BatchEnrollRequest) -> None:
        answer = pb.BatchEnrollResponse(speaker_id=request.config.speaker_id, index=index)
        try:
            async with self._in_turn(request.config.speaker_id) as turn:
                answer.result.CopyFrom(await self._enrol(request, turn))
        except SaysoError as error:
            answer.error_code, answer.error_message = error.code.value[0], error.status_message
        except Exception:
            log.exception("an item of a batch failed")
            answer.error_code = grpc.StatusCode.INTERNAL.value[0]
            answer.error_message = "internal error; see the server's log"
        self._ready.put_nowait(answer)

    @asynccontextmanager
    async def _in_turn(self, speaker_id: str) -> AsyncIterator[Turn]:
        """Gives what waits for all earlier items of the speaker, of which any may end first."""
        at_work = self._at_work.setdefault(speaker_id, [])
        before, done = tuple(at_work), asyncio.Event()
        at_work.append(done)

        async def turn() -> None:
            for earlier in before:
                await earlier.wait()

        try:
            yield turn
        finally:
            done.set()
            at_work.remove(done)
            if not at_work:
                del self._at_work[speaker_id]
