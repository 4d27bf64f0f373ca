"""Enrolls many recordings of one stream concurrently, in bounded memory.

    request ─> a free slot? ─> decode, embed ─> its speaker's turn? ─> add ─> answer
                     ^──────────────── once the answer is taken ─────────────────┘

The items of one speaker are added in the order of the requests; answers are sent as soon as
they are ready.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from sayso.v1 import verification_pb2 as pb

from service.errors import SaysoError
from service.rpc.statuses import INTERNAL_STATUS, build_status

Turn: TypeAlias = Callable[[], Awaitable[None]]
Enroll: TypeAlias = Callable[[pb.BatchEnrollRequest, Turn], Awaitable[pb.EnrollResponse]]

log = logging.getLogger(__name__)


class Batch:
    """The items of one stream. At most `at_once` are in progress; each occupies a slot until the
    client has taken its answer. `enroll` must await its `Turn` before it adds to the speaker."""

    def __init__(self, enroll: Enroll, *, at_once: int) -> None:
        self._enroll = enroll
        self._slots = asyncio.Semaphore(at_once)
        self._ready = asyncio.Queue[pb.BatchEnrollResponse | None]()
        self._at_work: dict[str, list[asyncio.Event]] = {}

    async def enroll_all(
        self, requests: AsyncIterator[pb.BatchEnrollRequest]
    ) -> AsyncIterator[pb.BatchEnrollResponse]:
        """Yield one answer for each item, failed ones included; closing it cancels items in
        progress."""
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
        """Start each item when a slot is free, and queue None after the last answer.

        Raises the `SaysoError` of an unreadable request once the items before it have been
        answered.
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
        speaker_id = request.enrollment.config.speaker_id
        answer = pb.BatchEnrollResponse(speaker_id=speaker_id, index=index)
        try:
            async with self._queue_turn(speaker_id) as turn:
                answer.result.CopyFrom(await self._enroll(request, turn))
        except SaysoError as error:
            answer.error.CopyFrom(build_status(error))
        except Exception:
            log.exception("an item of a batch failed")
            answer.error.CopyFrom(INTERNAL_STATUS)
        self._ready.put_nowait(answer)

    @asynccontextmanager
    async def _queue_turn(self, speaker_id: str) -> AsyncIterator[Turn]:
        """Yield a function that waits until all earlier items of the speaker have ended."""
        at_work = self._at_work.setdefault(speaker_id, [])
        before, done = tuple(at_work), asyncio.Event()
        at_work.append(done)

        async def wait_for_turn() -> None:
            for earlier in before:
                await earlier.wait()

        try:
            yield wait_for_turn
        finally:
            done.set()
            at_work.remove(done)
            if not at_work:
                del self._at_work[speaker_id]
