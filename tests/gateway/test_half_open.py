"""Connections that are opened and then say nothing."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway import web
from gateway.server import RunningGateway
from tests.support.gateways import read_outcomes, run_gateway
from tests.support.sayso_server import SaysoServer
from tests.support.twilio_calls import PUBLIC_URL, make_call, make_start, sign


@pytest.fixture
async def gateway(
    server: SaysoServer, auth_tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningGateway]:
    monkeypatch.setattr(web, "_HANDSHAKE_S", 0.5)
    async with run_gateway(
        server,
        twilio_auth_tokens=auth_tokens,
        public_url=PUBLIC_URL,
        start_s=0.5,
        max_pause_s=0.5,
    ) as running:
        yield running


@pytest.mark.parametrize("sent", [b"", b"GET /twilio HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_request_that_does_not_end(gateway: RunningGateway, sent: bytes) -> None:
    host, port = gateway.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    async with asyncio.timeout(5.0):
        assert await reader.read() == b""
    writer.close()


async def test_a_stream_that_does_not_start(gateway: RunningGateway) -> None:
    url = f"ws://{gateway.address}/twilio"
    async with connect(url, additional_headers=sign(), proxy=None) as socket:
        async with asyncio.timeout(5.0):
            with pytest.raises(ConnectionClosed):
                await socket.recv()


async def test_a_call_that_falls_silent_is_concluded(
    gateway: RunningGateway, caller: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    url = f"ws://{gateway.address}/twilio"
    *messages, _stop = make_call(make_start("CA-silent", speaker_id="slt"), caller)
    async with connect(url, additional_headers=sign(), proxy=None) as socket:
        for message in messages[:60]:  # too little to decide on
            await socket.send(json.dumps(message))
        async with asyncio.timeout(10.0):
            await socket.wait_closed()
    assert read_outcomes(caplog) == {"CA-silent": "INCONCLUSIVE"}
    assert not len(gateway.calls)
