"""Batches: side by side but in bounded memory, in order for one speaker, each item for itself."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from sayso.v1 import verification_pb2 as pb

from service.errors import AudioError
from service.rpc.batches import Batch, Turn


def item(speaker_id: str, audio: bytes = b"") -> pb.BatchEnrollRequest:
    return pb.BatchEnrollRequest(
        enrollment=pb.EnrollRequest(config=pb.EnrollConfig(speaker_id=speaker_id), audio=audio)
    )


class Requests:
    """Counts how many items were taken."""

    def __init__(self, items: Iterable[pb.BatchEnrollRequest]) -> None:
        self.taken = 0
        self._items = items

    async def __aiter__(self) -> AsyncIterator[pb.BatchEnrollRequest]:
        for request in self._items:
            self.taken += 1
            yield request


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def stored(request: pb.BatchEnrollRequest, turn: Turn) -> pb.EnrollResponse:
    await turn()
    return pb.EnrollResponse(stored=True)


async def test_every_item_is_answered_under_its_index() -> None:
    requests = Requests(item(f"s{i}") for i in range(10))
    answers = [a async for a in Batch(stored, at_once=3).enroll_all(aiter(requests))]
    assert sorted((a.index, a.speaker_id) for a in answers) == [(i, f"s{i}") for i in range(10)]
    assert all(a.result.stored for a in answers)


async def test_an_item_that_fails_does_not_end_the_others() -> None:
    async def picky(request: pb.BatchEnrollRequest, turn: Turn) -> pb.EnrollResponse:
        match request.enrollment.config.speaker_id:
            case "deaf":
                raise AudioError("cannot be decoded")
            case "unlucky":
                raise RuntimeError("a secret of the server")
        return await stored(request, turn)

    requests = Requests(map(item, ("deaf", "fine", "unlucky", "fine")))
    answers = {a.index: a async for a in Batch(picky, at_once=2).enroll_all(aiter(requests))}
    assert (answers[0].error.code, answers[0].error.message) == (3, "audio: cannot be decoded")
    assert answers[2].error.code == 13
    assert "secret" not in answers[2].error.message
    assert not answers[0].HasField("result")
    assert answers[1].result.stored
    assert answers[3].result.stored


async def test_no_more_is_read_than_there_are_slots() -> None:
    requests = Requests(item(f"s{i}") for i in range(100))
    answers = Batch(stored, at_once=4).enroll_all(aiter(requests))
    await anext(answers)
    await settled()
    assert requests.taken == 4
    await anext(answers)
    await settled()
    assert requests.taken == 5
    await answers.aclose()  # type: ignore[attr-defined]


async def test_items_run_side_by_side() -> None:
    together = asyncio.Barrier(3)

    async def enrol(request: pb.BatchEnrollRequest, turn: Turn) -> pb.EnrollResponse:
        await together.wait()
        return await stored(request, turn)

    requests = Requests(item(f"s{i}") for i in range(6))
    async with asyncio.timeout(10):
        answers = [a async for a in Batch(enrol, at_once=3).enroll_all(aiter(requests))]
    assert len(answers) == 6


async def test_one_speakers_items_are_added_in_their_order() -> None:
    prepared, added = asyncio.Barrier(4), list[bytes]()

    async def enrol(request: pb.BatchEnrollRequest, turn: Turn) -> pb.EnrollResponse:
        await prepared.wait()
        for _ in range(10 - request.enrollment.audio[0]):
            await asyncio.sleep(0)
        await turn()
        added.append(request.enrollment.audio)
        return pb.EnrollResponse(stored=True)

    requests = Requests(item("one", bytes([i])) for i in range(8))
    async with asyncio.timeout(10):
        async for _ in Batch(enrol, at_once=4).enroll_all(aiter(requests)):
            pass
    assert added == [bytes([i]) for i in range(8)]


async def test_after_one_that_failed_the_speakers_next_goes_on() -> None:
    async def enrol(request: pb.BatchEnrollRequest, turn: Turn) -> pb.EnrollResponse:
        if request.enrollment.audio == b"bad":
            raise AudioError("cannot be decoded")
        return await stored(request, turn)

    requests = Requests(item("one", audio) for audio in (b"bad", b"good"))
    async with asyncio.timeout(10):
        answers = {a.index: a async for a in Batch(enrol, at_once=2).enroll_all(aiter(requests))}
    assert answers[1].result.stored


async def test_closing_cancels_what_is_in_work() -> None:
    cancelled = asyncio.Event()

    async def enrol(request: pb.BatchEnrollRequest, turn: Turn) -> pb.EnrollResponse:
        if request.enrollment.config.speaker_id == "quick":
            return pb.EnrollResponse(stored=True)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    requests = Requests(map(item, ("quick", "slow")))
    answers = Batch(enrol, at_once=2).enroll_all(aiter(requests))
    assert (await anext(answers)).speaker_id == "quick"
    await answers.aclose()  # type: ignore[attr-defined]
    assert cancelled.is_set()


async def test_what_ends_the_requests_ends_the_answers() -> None:
    async def broken() -> AsyncIterator[pb.BatchEnrollRequest]:
        yield item("one")
        raise ConnectionError("gone")

    with pytest.raises(ExceptionGroup):
        async for _ in Batch(stored, at_once=2).enroll_all(broken()):
            pass
