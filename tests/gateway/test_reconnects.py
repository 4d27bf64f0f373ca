"""A platform whose connection broke comes back with the same call, and goes on with it."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from gateway.server import RunningGateway
from tests.support.audiohook_client import API_KEY, CLIENT_SECRET, AudioHookClient
from tests.support.call_audio import split
from tests.support.gateways import read_outcomes, run_gateway
from tests.support.sayso_server import SaysoServer

SECOND = 8000  # bytes of mu-law


@pytest.fixture
async def gateway(server: SaysoServer, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    keys = tmp_path / "audiohook-keys"
    keys.touch(mode=0o600)
    keys.write_text(f"{API_KEY} {CLIENT_SECRET}\n")
    async with run_gateway(server, pcm=True, audiohook_keys=keys) as running:
        yield running


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "gateway")
    return caplog


@asynccontextmanager
async def call(
    gateway: RunningGateway, speaker_id: str = "slt", key: str = "any"
) -> AsyncIterator[ClientConnection]:
    """A call of the id `call`, begun."""
    start = {"call_id": "call", "speaker_id": speaker_id, "encoding": "MULAW", "sample_rate": 8000}
    async with connect(
        f"ws://{gateway.address}/pcm",
        subprotocols=[Subprotocol("sayso.v1")],
        additional_headers={"x-api-key": key},
        proxy=None,
    ) as socket:
        await socket.send(json.dumps(start))
        yield socket


async def break_off(gateway: RunningGateway, audio: bytes) -> None:
    """Begin a call, and break the connection once the gateway has read what was said."""
    async with call(gateway) as socket:
        await socket.send(audio)
        await asyncio.sleep(0.6)
        socket.transport.abort()


async def end(socket: ClientConnection, audio: bytes) -> dict[str, Any]:
    """Send the rest of a call; its last decision."""
    await socket.send(audio)
    await socket.send(json.dumps({"event": "end"}))
    async with asyncio.timeout(20):
        *_, last = [json.loads(message) async for message in socket]
    return dict(last)


async def wait_for(logged: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(15):
        while text not in logged.text:
            await asyncio.sleep(0.02)


async def test_a_call_goes_on(
    gateway: RunningGateway, caller: bytes, logged: pytest.LogCaptureFixture
) -> None:
    await break_off(gateway, caller[:SECOND])
    await wait_for(logged, "the connection broke")
    async with call(gateway) as socket:
        last = await end(socket, caller[SECOND : 3 * SECOND // 2])
    assert last["audio_s"] == pytest.approx(1.5, abs=0.05)
    assert "resumed" in logged.text
    await wait_for(logged, ", decision ")
    assert logged.text.count(", decision ") == 1


@pytest.mark.parametrize("other", [{"speaker_id": "rms"}, {"key": "of-somebody-else"}])
async def test_another_claim_or_credential_does_not_go_on_with_it(
    gateway: RunningGateway,
    caller: bytes,
    other: dict[str, str],
    logged: pytest.LogCaptureFixture,
) -> None:
    await break_off(gateway, caller[:SECOND])
    await wait_for(logged, "the connection broke")
    async with call(gateway, **other) as socket:
        last = await end(socket, caller[SECOND : 3 * SECOND // 2])
    assert last["audio_s"] == pytest.approx(0.5, abs=0.05)
    assert "resumed" not in logged.text


async def test_it_is_not_waited_for_for_ever(
    server: SaysoServer, caller: bytes, logged: pytest.LogCaptureFixture
) -> None:
    async with run_gateway(server, pcm=True, reconnect_s=0.3) as gateway:
        await break_off(gateway, caller[:SECOND])
        await wait_for(logged, ", decision ")
        assert len(gateway.calls) == 0


async def test_a_call_that_was_closed_is_not_waited_for(
    server: SaysoServer, caller: bytes, logged: pytest.LogCaptureFixture
) -> None:
    async with run_gateway(server, pcm=True, reconnect_s=300) as gateway:
        async with call(gateway) as socket:
            await socket.send(caller[:SECOND])
        await wait_for(logged, ", decision ")
    assert "the connection broke" not in logged.text


async def test_a_gateway_that_drains_waits_for_nobody(
    server: SaysoServer, caller: bytes, logged: pytest.LogCaptureFixture
) -> None:
    async with run_gateway(server, pcm=True, reconnect_s=300, drain_s=60) as gateway:
        await break_off(gateway, caller[:SECOND])
        await wait_for(logged, "the connection broke")
        began = time.monotonic()
    assert time.monotonic() - began < 15
    assert "call" in read_outcomes(logged)


@pytest.mark.parametrize("orderly", [True, False])
async def test_audiohook_reconnects(
    gateway: RunningGateway, caller: bytes, orderly: bool, logged: pytest.LogCaptureFixture
) -> None:
    claim = {"inputVariables": {"speaker_id": "slt"}}
    first = AudioHookClient(gateway.address)
    async with first:
        await first.open(**claim)
        for packet in split(caller[:SECOND], 1600):
            await first.socket.send(packet)
        if orderly:
            await first.send("close", {"reason": "reconnect"})
            await first.receive_until("closed")
        else:
            await asyncio.sleep(0.6)
            first.socket.transport.abort()
    await wait_for(logged, "the connection broke")
    second = AudioHookClient(gateway.address, conversation=first.conversation)
    async with second:
        await second.open(**claim, continuedSessions=[{"id": first.session}])
        for packet in split(caller[SECOND:], 1600):
            await second.socket.send(packet)
        await second.close()
    assert second.outcomes[-1] == "ACCEPTED"
    assert "resumed" in logged.text
    assert read_outcomes(logged) == {first.conversation: "ACCEPTED"}
