"""The loop asks for what has come when there is nothing to do, and often enough when there is."""

import asyncio
import os
import selectors
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from service import loop

Result = TypeVar("Result")


def run(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    with asyncio.Runner(loop_factory=loop.new) as runner:
        return runner.run(work())


@pytest.mark.parametrize("busy", [0, 1, 40])
def test_what_comes_is_seen_however_busy_it_is(busy: int) -> None:
    async def hear() -> bytes:
        stop = asyncio.Event()

        async def spin() -> None:
            while not stop.is_set():
                await asyncio.sleep(0)

        spinning = [asyncio.create_task(spin()) for _ in range(busy)]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.send(b"hello")
            async with asyncio.timeout(10):
                heard = await asyncio.get_running_loop().sock_recv(ours, 5)
        stop.set()
        await asyncio.gather(*spinning)
        return heard

    assert run(hear) == b"hello"


@pytest.mark.parametrize("busy", [False, True])
def test_timers_and_threads_are_not_forgotten(busy: bool) -> None:
    async def wait() -> int:
        async def spin() -> None:
            while busy:
                await asyncio.sleep(0)

        spinning = asyncio.create_task(spin())
        async with asyncio.timeout(10):
            await asyncio.sleep(0.01)
            pid = await asyncio.to_thread(os.getpid)
        spinning.cancel()
        return pid

    assert run(wait) == os.getpid()


def test_it_does_not_ask_before_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[float | None]()
    ask = selectors.DefaultSelector.select

    def counted(self: selectors.DefaultSelector, timeout: float | None = None) -> Any:
        asked.append(timeout)
        return ask(self, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", counted)

    async def steps() -> None:
        for _ in range(160):
            await asyncio.sleep(0)

    run(steps)
    assert 8 <= len(asked) <= 20
