"""Work is done elsewhere, in turn, and what comes of it comes back to the loop that asked."""

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.inference.threads import Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads(2, name="worker")
    yield made
    made.close()


class Gate:
    """Work that waits until it is let through, and says when it has begun."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.open.wait(10)
        return threading.current_thread().name


async def test_work_comes_back_from_another_thread(threads: Threads) -> None:
    assert await threads.run(pow, 2, 5) == 32
    assert not await threads.run(list)
    assert (await threads.run(threading.current_thread)).name.startswith("worker_")


async def test_as_many_are_at_work_as_there_are_threads(threads: Threads) -> None:
    gates = [Gate() for _ in range(3)]
    working = [threads.run(gate) for gate in gates]
    for gate in gates[:2]:
        assert await asyncio.to_thread(gate.begun.wait, 10)
    assert not gates[2].begun.wait(0.05)
    for gate in gates:
        gate.open.set()
    names = await asyncio.gather(*working)
    assert set(names) == {"worker_0", "worker_1"}


async def test_owners_take_turns() -> None:
    one, first, done = Threads(1, name="one"), Gate(), list[str]()
    working = one.run(first)
    waiting = [one.run(done.append, f"much {n}", owner="much") for n in range(24)]
    waiting += [one.run(done.append, f"calm {n}", owner="calm") for n in range(2)]
    first.open.set()
    await asyncio.gather(working, *waiting)
    assert done[:5] == ["much 0", "calm 0", "much 1", "calm 1", "much 2"]
    assert done[5:] == [f"much {n}" for n in range(3, 24)]
    one.close()


async def test_what_it_raises_is_raised_and_the_next_works(threads: Threads) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 // 0)
    assert await threads.run(abs, -3) == 3


async def test_what_is_cancelled_before_its_turn_is_not_begun() -> None:
    one, first, done = Threads(1, name="one"), Gate(), list[int]()
    working = one.run(first)
    waiting = one.run(done.append, 1)
    waiting.cancel()
    await asyncio.sleep(0)  # asyncio tells the queue of a cancellation in its next round
    first.open.set()
    await working
    await one.run(done.append, 2)
    assert done == [2]
    one.close()


async def test_what_is_cancelled_at_work_harms_nobody(threads: Threads) -> None:
    gate = Gate()
    working = threads.run(gate)
    assert await asyncio.to_thread(gate.begun.wait, 10)
    working.cancel()
    gate.open.set()
    assert await threads.run(abs, -1) == 1


async def test_they_end_with_what_they_were_given() -> None:
    closed, gate = Threads(1, name="closed"), Gate()
    working, after = closed.run(gate), closed.run(threading.current_thread)
    closed.close()
    gate.open.set()
    await working
    thread = await after
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="after shutdown"):
        await closed.run(abs, -1)


def test_they_outlive_a_loop_that_is_gone() -> None:
    threads, gate = Threads(1, name="lasting"), Gate()

    async def leaving() -> None:
        threads.run(gate)
        assert await asyncio.to_thread(gate.begun.wait, 10)

    asyncio.run(leaving())
    gate.open.set()

    async def asking() -> int:
        return await threads.run(abs, -2)

    assert asyncio.run(asking()) == 2
    threads.close()


def test_a_process_ends_with_what_they_were_given() -> None:
    program = """
import asyncio, time
from service.inference.threads import Threads

async def leave():
    Threads(1, name="left").run(lambda: (time.sleep(0.2), print("done")))

asyncio.run(leave())
"""
    root = Path(__file__).parents[3]
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("done\n", "", 0)


class Held:
    """Something large."""


async def test_nothing_of_the_last_work_is_held(threads: Threads) -> None:
    gc.disable()
    try:
        held = Held()
        gone = weakref.ref(held)
        await threads.run(lambda given: None, held)
        with pytest.raises(TypeError):
            await threads.run(abs, held)  # type: ignore[arg-type]
        del held
        await asyncio.gather(*(threads.run(abs, 1) for _ in range(4)))
        assert gone() is None
    finally:
        gc.enable()
