"""Twilio Media Streams: signatures by Twilio's own library, messages as its pages have them."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sayso import NotFound
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.connectors import twilio
from gateway.server import RunningGateway
from tests.support.gateways import read_outcomes, run_gateway
from tests.support.sayso_server import SaysoServer
from tests.support.twilio_calls import (
    ACCOUNT_KEY,
    PUBLIC_URL,
    make_call,
    make_start,
    send_call,
    sign,
)


@pytest.fixture
async def gateway(server: SaysoServer, auth_tokens: Path) -> AsyncIterator[RunningGateway]:
    async with run_gateway(
        server, twilio_auth_tokens=auth_tokens, public_url=PUBLIC_URL
    ) as running:
        yield running


async def play(
    gateway: RunningGateway, messages: Iterator[dict[str, Any]], path: str = "/twilio"
) -> list[str | bytes]:
    """Play a call; what the gateway has sent until it closed."""
    url = f"ws://{gateway.address}{path}"
    async with connect(url, additional_headers=sign(path), proxy=None) as socket:
        with_answers = asyncio.create_task(_read(socket))
        with contextlib.suppress(ConnectionClosed):
            await send_call(socket, messages)
        return await with_answers


async def _read(socket: ClientConnection) -> list[str | bytes]:
    messages: list[str | bytes] = []
    with contextlib.suppress(ConnectionClosed):
        async for message in socket:
            messages.append(message)
    return messages


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "gateway")
    return caplog


async def test_a_claimed_caller_is_verified(
    gateway: RunningGateway, caller: bytes, impostor: bytes, logged: pytest.LogCaptureFixture
) -> None:
    sent = await asyncio.gather(
        play(gateway, make_call(make_start("CA-true", speaker_id="slt"), caller)),
        play(gateway, make_call(make_start("CA-false", speaker_id="slt"), impostor)),
        play(gateway, make_call(make_start("CA-nobody", speaker_id="nobody"), caller)),
    )
    assert read_outcomes(logged) == {
        "CA-true": "ACCEPTED",
        "CA-false": "REJECTED",
        "CA-nobody": "NOT_ENROLLED",
    }
    assert sent == [[], [], []], "nothing may be written to a one-way stream"


async def test_only_the_callers_track_is_heard(
    gateway: RunningGateway, caller: bytes, impostor: bytes, logged: pytest.LogCaptureFixture
) -> None:
    await play(gateway, make_call(make_start(speaker_id="slt"), caller, impostor))
    assert read_outcomes(logged) == {"CA1": "ACCEPTED"}


async def test_a_two_way_stream_ends_at_the_decision(
    gateway: RunningGateway, caller: bytes, logged: pytest.LogCaptureFixture
) -> None:
    """Twilio goes on with the call's TwiML only once the server has closed the stream."""

    def endless() -> Iterator[dict[str, Any]]:
        *messages, _ = make_call(make_start(speaker_id="slt"), caller * 3)
        yield from messages

    async with asyncio.timeout(20.0):
        url = f"ws://{gateway.address}/twilio/connect"
        async with connect(url, additional_headers=sign("/twilio/connect"), proxy=None) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                for message in endless():
                    await socket.send(json.dumps(message))
                    await asyncio.sleep(0.001)
                await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000
    assert read_outcomes(logged) == {"CA1": "ACCEPTED"}


async def test_an_announced_call_needs_no_parameter(
    gateway: RunningGateway, server: SaysoServer, caller: bytes, logged: pytest.LogCaptureFixture
) -> None:
    with server.client() as sayso:
        sayso.announce_call("CA-announced", "slt", policy="payments")
        await play(gateway, make_call(make_start("CA-announced"), caller))
        assert read_outcomes(logged) == {"CA-announced": "ACCEPTED"}
        with pytest.raises(NotFound):
            sayso.take_call("CA-announced")


async def test_an_announcement_counts_more_than_the_media(
    gateway: RunningGateway, server: SaysoServer, caller: bytes, logged: pytest.LogCaptureFixture
) -> None:
    with server.client() as sayso:
        sayso.announce_call("CA-other", "rms")
    await play(gateway, make_call(make_start("CA-other", speaker_id="slt"), caller))
    assert read_outcomes(logged) == {"CA-other": "REJECTED"}


async def test_a_call_of_nobody_is_refused(
    gateway: RunningGateway, caller: bytes, logged: pytest.LogCaptureFixture
) -> None:
    await play(gateway, make_call(make_start(), caller))
    assert read_outcomes(logged) == {}
    assert "claims nobody and was not announced" in logged.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Twilio-Signature": ""},
        {"X-Twilio-Signature": "é"},
        sign(token="another"),
        sign("/twilio/connect"),
    ],
)
async def test_an_unsigned_stream_is_refused(
    gateway: RunningGateway, headers: dict[str, str]
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{gateway.address}/twilio", additional_headers=headers, proxy=None)
    assert refused.value.response.status_code == 403


@given(
    st.text("abcdef0123456789", min_size=1, max_size=40),
    st.sampled_from(["", ":443", ":8443"]),
    st.text("abcxyz0189-_/", max_size=30),
)
def test_signatures_are_those_of_twilios_library(token: str, port: str, path: str) -> None:
    url = f"wss://voice.example.com{port}/{path}"
    signature = str(RequestValidator(token).compute_signature(url, {}))
    assert twilio.is_signed(signature, url, ["other", token])
    assert not twilio.is_signed(signature, url + "x", [token])
    assert not twilio.is_signed(signature, url, [token + "x"])


def test_a_signature_may_be_of_the_url_without_its_port() -> None:
    bare, ported = "wss://voice.example.com/twilio", "wss://voice.example.com:443/twilio"
    for signed, configured in ((bare, ported), (ported, bare)):
        signature = str(RequestValidator(ACCOUNT_KEY).compute_signature(signed, {}))
        assert twilio.is_signed(signature, configured, [ACCOUNT_KEY])
