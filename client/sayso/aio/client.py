"""The client for asyncio: the methods of `Client`, awaited."""

import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
)
from types import TracebackType
from typing import Any, Self

from sayso import announcements, events, groups, server, speakers, voices
from sayso.aio.methods import Part, feed, live, method, of_recording, paged, series
from sayso.aio.transport import Transport
from sayso.batch import MAX_ITEM_BYTES, Outgoing, failure
from sayso.calls import iterate
from sayso.connection import ADDRESS, TIMEOUT_S, Target, make_request_id
from sayso.errors import SaysoError
from sayso.security import Tls
from sayso.v1.verification_pb2_grpc import VerificationServiceStub
from sayso.values import BatchItem, BatchResult


class AsyncSpeakers(Part):
    """The life of enrolled voices."""

    get = method(speakers.get_speaker)
    list = paged(speakers.list_speakers)
    list_page = method(speakers.list_page)
    update = method(speakers.update_speaker)
    withdraw_consent = method(speakers.withdraw_consent)
    opt_out = method(speakers.opt_out)
    opt_in = method(speakers.opt_in)
    undo = method(speakers.undo_enrollment)
    confirm = method(speakers.confirm_enrollment)
    migration = method(speakers.get_migration)
    delete = method(speakers.delete_speaker)
    export = method(speakers.export_speaker)
    unlock = method(speakers.unlock_speaker)


class AsyncGroups(Part):
    """Named groups of speakers."""

    create = method(groups.create_group)
    get = method(groups.get_group)
    describe = method(groups.describe_group)
    list = paged(groups.list_groups)
    delete = method(groups.delete_group)
    add_members = series(groups.add_members)
    remove_members = series(groups.remove_members)
    members = paged(groups.list_members)


class AsyncClient(Part):
    """A connection to a Sayso server, for the tasks of one event loop; closed on leaving.

    Takes the arguments of `Client` and has its methods: coroutines, and asynchronous iterators of
    what it iterates over. `chunks` and `items` may be of either kind. Close an iterator that you
    leave (`contextlib.aclosing`), or its end waits for the garbage collector.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        *,
        timeout_s: float = TIMEOUT_S,
        credential: str | None = None,
        tls: Tls | None = None,
        insecure: bool = False,
        options: Mapping[str, Any] | None = None,
        request_ids: Callable[[], str] = make_request_id,
    ) -> None:
        target = Target(address, credential, tls, insecure, options)
        super().__init__(Transport(target, timeout_s=timeout_s, request_ids=request_ids))
        self.speakers = AsyncSpeakers(self._transport)
        self.groups = AsyncGroups(self._transport)

    enroll = of_recording(voices.enroll)
    enroll_stream = live(voices.enroll_stream)
    verify = of_recording(voices.verify)
    verify_stream = live(voices.verify_stream)
    identify = of_recording(voices.identify)
    embed = of_recording(voices.embed)
    compare = method(voices.compare)
    announce_call = method(announcements.announce_call)
    take_call = method(announcements.take_call)
    watch_events = feed(events.watch_events)
    server_info = method(server.get_server_info)

    async def batch_enroll(
        self,
        items: AsyncIterable[BatchItem] | Iterable[BatchItem],
        *,
        max_item_bytes: int = MAX_ITEM_BYTES,
    ) -> AsyncGenerator[BatchResult, None]:
        """Enrolls many recordings on one stream; see `Client.batch_enroll`."""
        numbered, outgoing = _number(items), Outgoing(max_item_bytes)
        while True:
            requests = outgoing.requests_as_they_come(numbered)
            responses = self._transport.exchange(VerificationServiceStub, "BatchEnroll", requests)
            async with contextlib.aclosing(responses):
                async for response in responses:
                    for unsent in outgoing.take_unsent():
                        yield unsent
                    yield outgoing.result(response)
            for unsent in outgoing.take_unsent():
                yield unsent
            if outgoing.large is None:
                return
            yield await self._enroll_large(*outgoing.large)

    async def ready(self) -> bool:
        """Whether the server is there, its model loaded and its store reachable."""
        return not await self.why_not_ready()

    async def why_not_ready(self) -> str:
        """Empty if the server is ready; else what it is waiting for, or why it is not reached."""
        return await self._transport.why_not_ready()

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _enroll_large(self, index: int, item: BatchItem, audio: bytes) -> BatchResult:
        try:
            enrollment = await self._transport.send(voices.enroll_item(item, audio))
        except SaysoError as error:
            return failure(index, item, error)
        return BatchResult(index, item.speaker_id, enrollment)


async def _number(
    items: AsyncIterable[BatchItem] | Iterable[BatchItem],
) -> AsyncIterator[tuple[int, BatchItem]]:
    index = 0
    async for item in iterate(items):
        yield index, item
        index += 1
