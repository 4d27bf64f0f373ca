"""Asterisk AudioSocket: frames as res_audiosocket.c sends them."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator

import pytest

from gateway.server import RunningGateway
from tests.support.audiosocket_calls import CALL, HANGUP, SLIN, SLIN16, make_call, make_frame
from tests.support.call_audio import read_pcm
from tests.support.gateways import read_outcomes, run_gateway
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips


@pytest.fixture
async def gateway(server: SaysoServer) -> AsyncIterator[RunningGateway]:
    async with run_gateway(
        server, audiosocket_listen="127.0.0.1:0", start_s=1.0, max_pause_s=1.0
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "gateway")
    return caplog


@pytest.fixture(scope="session")
def samples() -> bytes:
    return read_pcm(*clips("slt", "verify"), *clips("slt", "enroll"))


async def send(gateway: RunningGateway, sent: bytes, *, leave: bool = True) -> bytes:
    """Send bytes; what the gateway answers until it closes the connection."""
    assert gateway.audiosocket is not None
    host, port = gateway.audiosocket.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    with contextlib.suppress(ConnectionError):
        writer.write(sent)
        await writer.drain()
        if leave:
            writer.write_eof()
    try:
        async with asyncio.timeout(20.0):
            with contextlib.suppress(ConnectionError):
                return await reader.read()
        return b""
    finally:
        writer.close()


async def test_an_announced_call_is_verified(
    gateway: RunningGateway, server: SaysoServer, samples: bytes, logged: pytest.LogCaptureFixture
) -> None:
    with server.client() as sayso:
        sayso.announce_call(str(CALL), "slt")
    answered = await send(gateway, make_call(samples) + make_frame(0x03, b"5") + HANGUP)
    assert answered == b"", "Asterisk ends the call at frames that it does not expect"
    assert read_outcomes(logged) == {str(CALL): "ACCEPTED"}


async def test_a_connection_may_end_without_hangup(
    gateway: RunningGateway, server: SaysoServer, samples: bytes, logged: pytest.LogCaptureFixture
) -> None:
    with server.client() as sayso:
        sayso.announce_call(str(CALL), "rms")
    await send(gateway, make_call(samples)[:-100])
    assert read_outcomes(logged) == {str(CALL): "REJECTED"}


async def test_the_kind_of_the_frames_says_the_rate(
    gateway: RunningGateway, server: SaysoServer, samples: bytes, logged: pytest.LogCaptureFixture
) -> None:
    """Half as long at twice the rate: too little to decide on."""
    with server.client() as sayso:
        sayso.announce_call(str(CALL), "slt")
    await send(gateway, make_call(samples[: 2 * 8000], kind=SLIN16) + HANGUP)
    assert read_outcomes(logged) == {str(CALL): "INCONCLUSIVE"}


async def test_a_call_that_was_not_announced_is_refused(
    gateway: RunningGateway, samples: bytes, logged: pytest.LogCaptureFixture
) -> None:
    await send(gateway, make_call(samples, uuid.uuid4()))
    assert "the call was not announced" in logged.text


async def test_an_announcement_is_good_for_one_connection(
    gateway: RunningGateway, server: SaysoServer, samples: bytes, logged: pytest.LogCaptureFixture
) -> None:
    with server.client() as sayso:
        sayso.announce_call(str(CALL), "slt")
    await asyncio.gather(*(send(gateway, make_call(samples)) for _ in range(4)))
    assert logged.text.count("the call was not announced") == 3


async def test_other_networks_are_refused(
    server: SaysoServer, samples: bytes, logged: pytest.LogCaptureFixture
) -> None:
    async with run_gateway(
        server, audiosocket_listen="127.0.0.1:0", audiosocket_allow="10.0.0.0/8, 192.0.2.1"
    ) as gateway:
        await send(gateway, make_call(samples))
    assert "127.0.0.1 is in no allowed network" in logged.text


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (make_frame(SLIN, b"\0" * 320), "the first frame is no UUID"),
        (make_frame(0x01, b"\0" * 15), "the first frame is no UUID"),
        (b"GET / HTTP/1.1\r\n\r\n", "a frame of kind 0x47"),
        (make_frame(0x01, CALL.bytes) + make_frame(0x18, b"\0" * 320), "a frame of kind 0x18"),
    ],
)
async def test_malformed_frames_close_the_connection(
    gateway: RunningGateway, sent: bytes, says: str, logged: pytest.LogCaptureFixture
) -> None:
    await send(gateway, sent, leave=False)
    assert says in logged.text


@pytest.mark.parametrize("sent", [b"", b"\x01", make_frame(0x01, CALL.bytes)])
async def test_a_half_open_connection_is_closed(
    gateway: RunningGateway, sent: bytes, logged: pytest.LogCaptureFixture
) -> None:
    await send(gateway, sent, leave=False)
    assert "nothing came for 1 s" in logged.text
