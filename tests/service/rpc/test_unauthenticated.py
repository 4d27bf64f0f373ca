"""Places of calls without a credential: bounded, with a deadline, and fair between connections."""

import asyncio

import pytest

from service.errors import Overloaded, TimedOut
from service.rpc.unauthenticated import Places


class Calls:
    """Calls that hold their place until they are cancelled or lose it."""

    def __init__(self, count: int, deadline_s: float = 60.0) -> None:
        self.lost = self.ended = 0
        self._places = Places(count, deadline_s, count_refusal=self._lose)

    def _lose(self) -> None:
        self.lost += 1

    async def begin(self, connection: str) -> "asyncio.Task[None]":
        async def hold() -> None:
            try:
                async with self._places.take(connection):
                    await asyncio.Event().wait()
            except Overloaded:
                self.ended += 1

        call = asyncio.create_task(hold())
        await asyncio.sleep(0)
        return call


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_newer_call_gets_the_place_of_the_oldest() -> None:
    calls = Calls(2)
    first, second, third = [await calls.begin("a") for _ in range(3)]
    await settle()
    assert [call.done() for call in (first, second, third)] == [True, False, False]
    assert calls.lost == calls.ended == 1
    for call in (second, third):
        call.cancel()


async def test_a_flood_on_one_connection_ends_only_its_own_calls() -> None:
    calls = Calls(4)
    calm = await calls.begin("calm")
    flood = [await calls.begin("flood") for _ in range(100)]
    newcomer = await calls.begin("newcomer")
    await settle()
    assert not calm.done()
    assert not newcomer.done()
    assert [call.done() for call in flood] == [True] * 98 + [False] * 2
    for call in (calm, newcomer, *flood[-2:]):
        call.cancel()


async def test_a_call_that_ends_gives_its_place_back() -> None:
    calls = Calls(1)
    for _ in range(3):
        call = await calls.begin("a")
        call.cancel()
        await settle()
    assert calls.lost == 0


async def test_a_call_ends_at_its_deadline() -> None:
    calls = Calls(8, deadline_s=0.01)
    call = await calls.begin("a")
    with pytest.raises(TimedOut):
        await call
    assert calls.lost == 0


async def test_what_a_call_raises_is_raised() -> None:
    places = Places(1, 60.0, count_refusal=lambda: None)
    with pytest.raises(TimeoutError, match="its own"):
        async with places.take("a"):
            raise TimeoutError("its own")
