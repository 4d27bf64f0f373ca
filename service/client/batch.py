"""One stream of recordings out, their results in; what cannot be sent is a result, too."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from sayso.v1 import verification_pb2

from service.client import messages
from service.client.statuses import raise_error
from service.client.values import BatchItem, BatchResult

MAX_ITEM_BYTES = 16 * 2**20
"""The most audio that a server takes in one recording, unless it is set up otherwise."""

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_UNSENDABLE = grpc.StatusCode.INVALID_ARGUMENT.name


def results(
    method: Any, items: Iterable[BatchItem], *, max_item_bytes: int
) -> Iterator[BatchResult]:
    """Of every item, in the order that they are ready; ends the stream when it is closed."""
    outgoing = _Outgoing(items, max_item_bytes)
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


class _Outgoing:
    """Reads one item after the other, on the thread that sends them.

    `sent` has the index of the item behind each request that has no answer yet.
    """

    def __init__(self, items: Iterable[BatchItem], max_item_bytes: int) -> None:
        self.sent: dict[int, int] = {}
        self._items = items
        self._max_item_bytes = max_item_bytes
        self._unsent: deque[BatchResult] = deque()

    def requests(self) -> Iterator[verification_pb2.BatchEnrollRequest]:
        numbers = itertools.count()
        for index, item in enumerate(self._items):
            try:
                request = self._request(item)
            except (OSError, ValueError) as error:
                problem = BatchResult(index, item.speaker_id, None, _UNSENDABLE, str(error))
                self._unsent.append(problem)
                continue
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
