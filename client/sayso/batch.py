"""Recordings out on a stream, their results in; what cannot be sent is a result, too."""

import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import grpc

from sayso import messages
from sayso.statuses import raise_error
from sayso.v1 import verification_pb2
from sayso.values import BatchItem, BatchResult

log = logging.getLogger(__name__)

MAX_ITEM_BYTES = 16 * 2**20
"""The most audio that a server takes in one recording, unless it is set up otherwise."""

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_UNSENDABLE = grpc.StatusCode.INVALID_ARGUMENT.name
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


def results(stub: Any, items: Iterable[BatchItem], *, max_item_bytes: int) -> Iterator[BatchResult]:
    """Of every item, in the order that they are ready; ends the stream when it is closed.

    Each run of items that fit in a message is one stream, and each larger one between them a stream
    of its own, so that the items of a speaker are enrolled in their order.
    """
    outgoing = _Outgoing(items, max_item_bytes)
    while True:
        yield from _run(stub.BatchEnroll, outgoing)
        if outgoing.large is None:
            return
        yield _streamed(stub.Enroll, *outgoing.large)


def _run(method: Any, outgoing: "_Outgoing") -> Iterator[BatchResult]:
    responses = method(outgoing.requests())
    try:
        for response in responses:
            yield from outgoing.take_unsent()
            yield _result(response, outgoing.sent.pop(response.index))
        yield from outgoing.take_unsent()
    except grpc.RpcError as error:
        raise_error(error)
    finally:
        responses.cancel()


def _streamed(method: Any, index: int, item: BatchItem, audio: bytes) -> BatchResult:
    log.debug("a recording of %d bytes is streamed: too large for one message", len(audio))
    requests = messages.enroll_requests(messages.enroll_config(item), [audio])
    try:
        *_, last = method(requests)
    except grpc.RpcError as error:
        if error.code() not in _OF_AN_ITEM:
            raise_error(error)
        return BatchResult(index, item.speaker_id, None, error.code().name, error.details() or "")
    return BatchResult(index, item.speaker_id, messages.enrollment(last))


class _Outgoing:
    """Reads one item after the other, on the thread that sends them.

    `sent` has the index of the item behind each request that has no answer yet. Requests end with
    the items, or at one that is too large for a message, which is then `large`.
    """

    def __init__(self, items: Iterable[BatchItem], max_item_bytes: int) -> None:
        self.sent: dict[int, int] = {}
        self.large: tuple[int, BatchItem, bytes] | None = None
        self._items = enumerate(items)
        self._max_item_bytes = max_item_bytes
        self._unsent: deque[BatchResult] = deque()

    def requests(self) -> Iterator[verification_pb2.BatchEnrollRequest]:
        self.large = None
        numbers = itertools.count()
        for index, item in self._items:
            try:
                request = self._request(item)
            except (OSError, ValueError) as error:
                problem = BatchResult(index, item.speaker_id, None, _UNSENDABLE, str(error))
                self._unsent.append(problem)
                continue
            if request.ByteSize() > messages.MAX_MESSAGE_BYTES:
                self.large = (index, item, request.audio)
                return
            self.sent[next(numbers)] = index
            yield request

    def take_unsent(self) -> Iterator[BatchResult]:
        while self._unsent:
            yield self._unsent.popleft()

    def _request(self, item: BatchItem) -> verification_pb2.BatchEnrollRequest:
        audio = messages.audio_bytes(item.audio)
        if len(audio) > self._max_item_bytes:
            raise ValueError(f"audio: exceeds {self._max_item_bytes} bytes; send less of it")
        return verification_pb2.BatchEnrollRequest(config=messages.enroll_config(item), audio=audio)


def _result(response: verification_pb2.BatchEnrollResponse, index: int) -> BatchResult:
    if response.error_code:
        code = _CODES.get(response.error_code, str(response.error_code))
        return BatchResult(index, response.speaker_id, None, code, response.error_message)
    return BatchResult(index, response.speaker_id, messages.enrollment(response.result))
