"""Bytes are never given twice, never lost, and given in the order in which they were asked for."""

import asyncio
import random

import pytest

from service.errors import Overloaded
from service.rpc.room import Room


async def test_who_finds_none_waits_in_turn() -> None:
    room, order = Room(100), []

    async def ask(name: str, size: int) -> None:
        with await room.place(size):
            order.append(name)

    with await room.place(60):
        waiting = [asyncio.create_task(ask(*each)) for each in (("large", 80), ("small", 10))]
        await asyncio.sleep(0)
        assert order == []  # a small one does not overtake: the large one's turn would never come
    await asyncio.gather(*waiting)
    assert order == ["large", "small"]


async def test_what_is_not_needed_is_given_back_at_once() -> None:
    room = Room(100, patience_s=0.01)
    with await room.place(100) as place:
        with pytest.raises(Overloaded), await room.place(50):
            pass
        place.keep(50)
        place.keep(70)  # more than it has left: it keeps that
        with await room.place(50):
            pass


async def test_more_than_there_is_takes_all() -> None:
    room = Room(100, patience_s=0.01)
    with await room.place(1000), pytest.raises(Overloaded, match="smaller"):
        await room.place(1)
    with await room.place(100):
        pass


async def test_nothing_is_lost_to_those_who_give_up() -> None:
    chance, room, held = random.Random(8), Room(100, patience_s=0.005), 0

    async def ask() -> None:
        nonlocal held
        size = chance.randint(1, 100)
        with await room.place(size) as place:
            for kept in (size, chance.randint(0, size)):
                place.keep(kept)
                held += kept
                assert held <= 100
                try:
                    await asyncio.sleep(chance.random() / 500)
                finally:
                    held -= kept

    for _ in range(20):
        asking = [asyncio.create_task(ask()) for _ in range(30)]
        await asyncio.sleep(chance.random() / 100)
        for each in chance.sample(asking, 10):
            each.cancel()
        for end in await asyncio.gather(*asking, return_exceptions=True):
            assert end is None or isinstance(end, Overloaded | asyncio.CancelledError)
    with await room.place(100):
        pass
