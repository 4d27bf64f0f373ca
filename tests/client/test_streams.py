"""How live calls are left, and what becomes of a source that fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from sayso import AsyncClient, Client, NotFound

from tests.support.overheard_server import BRIEF, REFUSED, OverheardServer

CHUNKS = [b"one", b"two", b"three"]


class LineDropped(Exception):
    pass


class UpstreamFailed(grpc.RpcError):
    """What a source raises that reads from another gRPC server."""


@pytest.fixture
def server() -> Iterator[OverheardServer]:
    with OverheardServer() as running:
        yield running


@pytest.fixture
def client(server: OverheardServer) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.fixture
async def awaited(server: OverheardServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.address) as connected:
        yield connected


def drop(error: BaseException) -> Iterator[bytes]:
    yield b"one"
    raise error


async def speak() -> AsyncIterator[bytes]:
    """Chunks for as long as anybody listens."""
    while True:
        yield b"more"
        await asyncio.sleep(0.01)


def test_a_stream_is_read_to_its_end(server: OverheardServer, client: Client) -> None:
    heard = [decision.explanation for decision in client.verify_stream("alice", CHUNKS)]
    assert heard == ["0", "1", "2", "3"]
    assert (server.audio, server.wait_for_ending()) == (CHUNKS, "half-closed")


async def test_an_awaited_stream_is_read_to_its_end(
    server: OverheardServer, awaited: AsyncClient
) -> None:
    heard = [decision.explanation async for decision in awaited.verify_stream("alice", CHUNKS)]
    assert heard == ["0", "1", "2", "3"]
    assert (server.audio, server.wait_for_ending()) == (CHUNKS, "half-closed")


def test_leaving_a_verification_half_closes_it(server: OverheardServer, client: Client) -> None:
    for _ in client.verify_stream("alice", iter(lambda: b"more", None)):
        break
    assert server.wait_for_ending() == "half-closed"


async def test_leaving_an_awaited_verification_half_closes_it(
    server: OverheardServer, awaited: AsyncClient
) -> None:
    async with contextlib.aclosing(awaited.verify_stream("alice", speak())) as decisions:
        async for _ in decisions:
            break
    assert server.wait_for_ending() == "half-closed"


async def test_an_iterator_that_is_dropped_half_closes_it_too(
    server: OverheardServer, awaited: AsyncClient
) -> None:
    async for _ in awaited.verify_stream("alice", speak()):
        break
    assert await asyncio.to_thread(server.wait_for_ending) == "half-closed"


def test_leaving_an_enrollment_cancels_it(server: OverheardServer, client: Client) -> None:
    for _ in client.enroll_stream("alice", iter(lambda: b"more", None)):
        break
    assert server.wait_for_ending() == "cancelled"


async def test_leaving_an_awaited_enrollment_cancels_it(
    server: OverheardServer, awaited: AsyncClient
) -> None:
    async with contextlib.aclosing(awaited.enroll_stream("alice", speak())) as progress:
        async for _ in progress:
            break
    assert server.wait_for_ending() == "cancelled"


def test_a_refusal_is_raised_though_the_source_goes_on(
    server: OverheardServer, client: Client
) -> None:
    server.refuse(grpc.StatusCode.NOT_FOUND, "no group")
    with pytest.raises(NotFound, match="no group"):
        list(client.verify_stream(REFUSED, iter(lambda: b"more", None)))


async def test_a_refusal_is_raised_where_it_is_awaited(
    server: OverheardServer, awaited: AsyncClient
) -> None:
    server.refuse(grpc.StatusCode.NOT_FOUND, "no group")
    with pytest.raises(NotFound, match="no group"):
        [each async for each in awaited.verify_stream(REFUSED, speak())]


@pytest.mark.parametrize("pause_s", [None, 0, 0.001])
async def test_an_end_that_crosses_a_write_is_what_the_server_says(
    server: OverheardServer, awaited: AsyncClient, pause_s: float | None
) -> None:
    """It is lost in grpc.aio two times of three."""

    async def hurry() -> AsyncIterator[bytes]:
        while True:
            yield bytes(10_000)
            if pause_s is not None:
                await asyncio.sleep(pause_s)

    server.refuse(grpc.StatusCode.NOT_FOUND, "no group")
    for _ in range(20):
        heard = [each.explanation async for each in awaited.verify_stream(BRIEF, hurry())]
        assert heard == ["0"]
        with pytest.raises(NotFound, match="no group"):
            [each async for each in awaited.verify_stream(REFUSED, hurry())]


@pytest.mark.parametrize("error", [LineDropped(), UpstreamFailed()])
def test_a_source_that_fails_cancels_and_raises(
    server: OverheardServer, client: Client, error: Exception
) -> None:
    with pytest.raises(type(error)):
        list(client.enroll_stream("alice", drop(error)))
    assert server.wait_for_ending() == "cancelled"


@pytest.mark.parametrize(
    "error",
    [
        LineDropped(),
        asyncio.InvalidStateError(),
        asyncio.CancelledError(),
        grpc.aio.AioRpcError(grpc.StatusCode.ABORTED, grpc.aio.Metadata(), grpc.aio.Metadata()),
    ],
)
async def test_a_source_that_fails_cancels_and_raises_where_it_is_awaited(
    server: OverheardServer, awaited: AsyncClient, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        [each async for each in awaited.enroll_stream("alice", drop(error))]
    assert server.wait_for_ending() == "cancelled"


async def test_a_task_that_is_cancelled_ends_its_stream(
    server: OverheardServer, awaited: AsyncClient
) -> None:
    started = asyncio.Event()

    async def listen() -> None:
        async for _ in awaited.verify_stream("alice", speak()):
            started.set()

    task = asyncio.create_task(listen())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(server.wait_for_ending) == "cancelled"
