"""How the listener reads WebSockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from gateway.server import format_address, listen
from gateway.settings import Settings
from gateway.sockets import Socket
from gateway.web import make_server

FRAMES = 40
FRAME_S = 0.02


@contextlib.asynccontextmanager
async def take_frames(message_s: float, received_s: list[float]) -> AsyncIterator[str]:
    """Note when each frame of a WebSocket is received; yields its URL."""

    async def take(websocket: WebSocket) -> None:
        await websocket.accept()
        socket = Socket(websocket, start_s=5.0, max_pause_s=5.0)
        async for _ in socket.messages():
            received_s.append(asyncio.get_running_loop().time())

    app = Starlette(routes=[WebSocketRoute("/", take)])
    server = make_server(
        Settings.read(console=True, listen="127.0.0.1:0", message_s=message_s), app
    )
    listener = listen("127.0.0.1:0")
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield f"ws://{format_address(listener)}/"
    finally:
        server.should_exit = True
        await serving


def count_reads(received_s: list[float]) -> int:
    """Frames that were read at once are received within a millisecond or two of each other."""
    gaps = (later - earlier for earlier, later in pairwise(received_s))
    return 1 + sum(gap > FRAME_S / 2 for gap in gaps)


async def test_frames_are_read_some_at_a_time() -> None:
    received_s: list[float] = []
    async with take_frames(0.2, received_s) as url, connect(url, proxy=None) as socket:
        for _ in range(FRAMES):
            await socket.send(bytes(160))
            await asyncio.sleep(FRAME_S)
    assert len(received_s) == FRAMES
    assert count_reads(received_s) <= FRAMES / 5


async def test_all_that_came_meanwhile_is_read_at_once() -> None:
    received_s: list[float] = []
    async with take_frames(1.0, received_s) as url, connect(url, proxy=None) as socket:
        for _ in range(500):
            await socket.send(bytes(160))
    assert len(received_s) == 500
    assert received_s[-1] - received_s[0] < 4.0
