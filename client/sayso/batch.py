"""Recordings of a batch: what is sent together, alone because it is large, or not at all."""

import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from sayso import messages
from sayso.errors import InvalidArgument, SaysoError
from sayso.recordings import read_recording
from sayso.statuses import make_item_error
from sayso.v1 import verification_pb2
from sayso.values import BatchItem, BatchResult

MAX_ITEM_BYTES = 16 * 2**20
"""The most audio that a server takes in one recording, unless it is set up otherwise."""

_OF_AN_ITEM = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
    }
)
"""What an item's own stream may end with while those of others go on."""


class Outgoing:
    """Items on their way to streams of `BatchEnroll`, and the results of those that came back.

    Each run of items that fit in a message is one stream. It ends with the items, or at one that is
    too large for a message, which is then `large`, for a stream of its own: so the items of a
    speaker are enrolled in their order. An item that cannot be sent has its result at once.
    """

    def __init__(self, max_item_bytes: int) -> None:
        self.large: tuple[int, BatchItem, bytes] | None = None
        self._max_item_bytes = max_item_bytes
        self._indexes: dict[int, int] = {}  # of the item, by that of its request on the stream
        self._numbers = itertools.count()
        self._unsent: deque[BatchResult] = deque()

    def requests(self, items: Iterator[tuple[int, BatchItem]]) -> Iterator[Any]:
        """Yield the requests of one run; `items` come with their indexes."""
        self._begin()
        for index, item in items:
            if (request := self._prepare(index, item)) is not None:
                yield request
            if self.large is not None:
                return

    async def requests_as_they_come(
        self, items: AsyncIterator[tuple[int, BatchItem]]
    ) -> AsyncIterator[Any]:
        self._begin()
        async for index, item in items:
            if (request := self._prepare(index, item)) is not None:
                yield request
            if self.large is not None:
                return

    def take_unsent(self) -> Iterator[BatchResult]:
        while self._unsent:
            yield self._unsent.popleft()

    def result(self, response: verification_pb2.BatchEnrollResponse) -> BatchResult:
        index = self._indexes.pop(response.index)
        if response.HasField("error"):
            return BatchResult(index, response.speaker_id, error=make_item_error(response.error))
        return BatchResult(index, response.speaker_id, messages.enrollment(response.result))

    def _begin(self) -> None:
        self.large = None
        self._numbers = itertools.count()

    def _prepare(self, index: int, item: BatchItem) -> Any:
        """The item's request; None if it is too large for a message, or cannot be sent."""
        try:
            audio = read_recording(item.audio)
            if len(audio) > self._max_item_bytes:
                raise ValueError(f"audio: exceeds {self._max_item_bytes} bytes; send less of it")
            enrollment = verification_pb2.EnrollRequest(
                config=messages.enroll_config(item), audio=audio
            )
        except (OSError, ValueError) as error:
            unsent = BatchResult(index, item.speaker_id, error=InvalidArgument(str(error)))
            self._unsent.append(unsent)
            return None
        request = verification_pb2.BatchEnrollRequest(enrollment=enrollment)
        if request.ByteSize() > messages.MAX_MESSAGE_BYTES:
            self.large = (index, item, audio)
            return None
        self._indexes[next(self._numbers)] = index
        return request


def failure(index: int, item: BatchItem, error: SaysoError) -> BatchResult:
    """The result of an item whose own stream failed; raises the error if it concerns all items."""
    if error.code not in _OF_AN_ITEM:
        raise error
    return BatchResult(index, item.speaker_id, error=error)
