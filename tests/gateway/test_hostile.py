"""Hostile inputs for every connector; `HOSTILE_INPUTS` says how many each."""

import asyncio
import contextlib
import json
import logging
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from gateway.connectors import audiohook, pcm, twilio
from gateway.connectors.dialects import DIALECTS
from gateway.connectors.siprec.messages import (
    Request,
    find_return_port,
    make_response,
    parse_message,
)
from gateway.connectors.siprec.metadata import Metadata, parse_metadata
from gateway.connectors.siprec.rtp import PacketOrder, parse_packet
from gateway.connectors.siprec.sdp import parse_offer
from gateway.connectors.siprec.sessions import choose_caller, find_call_id, parse_body
from gateway.errors import GatewayError
from gateway.server import RunningGateway
from gateway.sockets import parse_object
from tests.gateway import test_dialects
from tests.support import audiosocket_calls, siprec_calls, twilio_calls
from tests.support.audiohook_client import API_KEY, CLIENT_SECRET, OFFERED, AudioHookClient
from tests.support.call_audio import split
from tests.support.gateways import read_outcomes, run_gateway
from tests.support.sayso_server import SaysoServer

INPUTS = int(os.environ.get("HOSTILE_INPUTS", "200"))
many = settings(deadline=None, max_examples=INPUTS, suppress_health_check=[HealthCheck.too_slow])

values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1", "-1", "0x1", "١", "9" * 400, "audio/x-mulaw", "slt", "inbound"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn, seeds: list[Any]) -> Any:
    """A well-formed message of which some fields, at any depth, are another value or gone."""
    message = json.loads(json.dumps(draw(st.sampled_from(seeds))))
    for _ in range(draw(st.integers(0, 3))):
        holder = message
        while isinstance(holder, dict) and holder:
            name = draw(st.sampled_from(sorted(holder)))
            if isinstance(holder[name], dict) and draw(st.booleans()):
                holder = holder[name]
                continue
            if draw(st.booleans()):
                holder[name] = draw(values)
            else:
                del holder[name]
            break
    return message


SAMPLES = b"\x00\x10" * 800
STREAMS: dict[str, tuple[Callable[[Mapping[str, Any]], Any], list[Any]]] = {
    "twilio": (
        twilio.parse_event,
        list(twilio_calls.make_call(twilio_calls.make_start(), SAMPLES)),
    ),
    **{
        vendor: (parse, list(test_dialects.VENDORS[vendor](SAMPLES, SAMPLES)))
        for vendor, (parse, _) in DIALECTS.items()
    },
}
FIRST_MESSAGES: list[Any] = [
    {"call_id": "1", "speaker_id": "slt", "sample_rate": 8000, "channels": 2, "channel": 1},
    {"callSid": "1", "sampleRate": 8000, "mixType": "mono", "speaker_id": "slt"},
    {"event": "websocket:connected", "content-type": "audio/l16;rate=8000", "call_id": "1"},
    {"event": "MEDIA_START", "channel_id": "1", "format": "ulaw", "channel_variables": {}},
]


@pytest.mark.parametrize("vendor", STREAMS)
def test_a_message_is_read_or_refused(vendor: str) -> None:
    parse, seeds = STREAMS[vendor]

    @many
    @given(changed(seeds) | values)
    def holds(message: Any) -> None:
        with contextlib.suppress(GatewayError):
            parse(parse_object(json.dumps(message)))

    holds()


@pytest.mark.parametrize("parse", [pcm.parse_freeswitch, pcm.parse_jambonz, pcm.parse_vonage,
                                   pcm.parse_asterisk, pcm.parse_own])  # fmt: skip
def test_a_first_message_is_read_or_refused(parse: Callable[[str], Any]) -> None:
    @many
    @given((changed(FIRST_MESSAGES) | values).map(json.dumps) | st.text())
    def holds(message: str) -> None:
        with contextlib.suppress(GatewayError):
            parse(message)
        with contextlib.suppress(GatewayError):
            parse(f"MEDIA_START {message}")

    holds()


@many
@given(changed([{"media": OFFERED}]) | st.fixed_dictionaries({"media": values}))
def test_media_are_chosen_or_refused(message: Any) -> None:
    with contextlib.suppress(GatewayError):
        offered = message.get("media") if isinstance(message, dict) else message
        assert audiohook.choose_media(offered) in offered


@pytest.fixture
async def gateway(
    server: SaysoServer, auth_tokens: Path, tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    files = {"audiohook": f"{API_KEY} {CLIENT_SECRET}\n", "tokens": f"{test_dialects.PATH_END}\n"}
    for name, text in files.items():
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(text)
    async with run_gateway(
        server,
        twilio_auth_tokens=auth_tokens,
        public_url=twilio_calls.PUBLIC_URL,
        stream_tokens=tmp_path / "tokens",
        pcm=True,
        audiosocket_listen="127.0.0.1:0",
        siprec_listen="127.0.0.1:0",
    ) as running:
        yield running


def damage(chance: random.Random, seed: bytes) -> bytes:
    """Bytes that were changed, cut, or repeated."""
    data = bytearray(seed)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(data) + 1)
        data[at : at + chance.randrange(8)] = chance.randbytes(chance.randrange(8))
    return bytes(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.3 else data)


def make_messages(chance: random.Random, seeds: list[Any]) -> Iterator[str | bytes]:
    for message in seeds[: chance.randrange(1, 8)]:
        damaged = damage(chance, json.dumps(message).encode())
        yield damaged if chance.random() < 0.1 else damaged.decode(errors="replace")


METADATA = [siprec_calls.RFC_7865, siprec_calls.ORACLE, siprec_calls.RIBBON]
OFFER = siprec_calls.make_offer([4000, 4002])
INVITES = [
    client.make("INVITE", body, kind, Session_Expires="1800", Record_Route="<sip:p;lr>")
    for client in [siprec_calls.SipClient("127.0.0.1:5060").at(("127.0.0.1", 5061))]
    for kind, body in (siprec_calls.make_body(OFFER, each) for each in (*METADATA, None))
]
ENTITIES = b'<!DOCTYPE r [<!ENTITY a "a"><!ENTITY b "&a;&a;">]><recording>&b;</recording>'


def read_sip(data: bytes) -> None:
    message = parse_message(data)
    assert message.branch and message.cseq >= 0 and message.from_tag is not None
    if isinstance(message, Request):
        assert 0 < find_return_port(message, 5061) < 65536
        response = make_response(message, 200, ("127.0.0.1", 5061), to_tag="here")
        assert response.count(b"\r\n\r\n") == 1, "no header of a request may end the headers"
        assert isinstance(message.contact, str)
        assert message.list_options("require") is not None
        body = parse_body(message)
        if body.offer is not None:
            metadata = body.metadata or Metadata()
            assert choose_caller(body.offer, metadata) in body.offer
            assert find_call_id(message, metadata, "recording")


def read_rtp(data: bytes) -> None:
    packet = parse_packet(data)
    assert packet is None or (packet.payload and packet.payload in data)


SIPREC: dict[str, tuple[Callable[[bytes], Any], list[bytes]]] = {
    "sip": (read_sip, INVITES),
    "sdp": (parse_offer, [OFFER.encode()]),
    "metadata": (parse_metadata, [*(each.encode() for each in METADATA), ENTITIES]),
    "rtp": (read_rtp, [*siprec_calls.make_packets(SAMPLES), b"\xbf\x00" + bytes(80)]),
}


@pytest.mark.parametrize("kind", SIPREC)
def test_siprec_is_read_or_refused(kind: str) -> None:
    read, seeds = SIPREC[kind]
    chance = random.Random(78)
    for _ in range(INPUTS):
        with contextlib.suppress(GatewayError):
            read(damage(chance, chance.choice(seeds)))
        with contextlib.suppress(GatewayError):
            read(chance.randbytes(chance.randrange(200)))


def test_siprec_bounds_what_nests_and_repeats() -> None:
    nested = b"".join(
        b"--%d\r\nContent-Type: multipart/mixed;boundary=%d\r\n\r\n" % (depth, depth + 1)
        for depth in range(1200)
    )
    client = siprec_calls.SipClient("127.0.0.1:5060").at(("127.0.0.1", 5061))
    read_sip(client.make("INVITE", nested, "multipart/mixed;boundary=0"))
    for value in ("," * 30_000, '"' * 30_001, "<" * 30_000, ";tag" * 7_000):
        began = time.perf_counter()
        read_sip(client.make("INVITE", Require=value))
        assert time.perf_counter() - began < 1.0


@many
@given(st.lists(st.integers(0, 0xFFFF) | st.integers(65_530, 65_600), max_size=60))
def test_packets_leave_once_and_are_not_hoarded(numbers: list[int]) -> None:
    order = PacketOrder()
    left = [each for number in numbers for each in order.add(number & 0xFFFF, b"%d" % number)]
    assert len(left) <= len(numbers)
    assert len(order.rest()) <= 5


async def test_a_gateway_outlives_hostile_connections(
    gateway: RunningGateway, caller: bytes, logged: pytest.LogCaptureFixture
) -> None:
    """After all of them, broken off at any point, it holds no call and verifies the next one."""
    chance = random.Random(19)
    seed = audiosocket_calls.make_call(SAMPLES)
    for number in range(INPUTS):
        await asyncio.gather(
            send_raw(gateway.audiosocket or "", damage(chance, seed)),
            send_raw(gateway.siprec or "", damage(chance, chance.choice(INVITES))),
            send_datagrams(gateway.siprec or "", damage(chance, chance.choice(INVITES))),
            send_raw(gateway.address, damage(chance, b"GET /pcm HTTP/1.1\r\nHost: x\r\n\r\n")),
            send_messages(gateway, f"/{chance.choice(list(DIALECTS))}/{test_dialects.PATH_END}",
                          make_messages(chance, STREAMS["telnyx"][1])),
            send_messages(gateway, "/twilio", make_messages(chance, STREAMS["twilio"][1])),
            send_messages(gateway, "/pcm", make_messages(chance, FIRST_MESSAGES), number),
        )  # fmt: skip
    logged.clear()
    logged.set_level(logging.INFO, "gateway")
    url = f"ws://{gateway.address}/twilio"
    async with connect(url, additional_headers=twilio_calls.sign(), proxy=None) as socket:
        start = twilio_calls.make_start("after", speaker_id="slt")
        await twilio_calls.send_call(socket, twilio_calls.make_call(start, caller))
        async with asyncio.timeout(20.0):
            await socket.wait_closed()
    assert read_outcomes(logged).get("after") == "ACCEPTED"  # calls broken off may end beside it
    async with asyncio.timeout(10.0):
        while len(gateway.calls):
            await asyncio.sleep(0.02)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Fails if anything went wrong that no connector expects."""
    yield caplog
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def send_raw(address: str, sent: bytes) -> None:
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    with contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(sent)
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(0.05):
            await reader.read()
    writer.transport.abort()


async def send_datagrams(address: str, sent: bytes) -> None:
    host, port = address.split(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(sent, (host, int(port)))
        await asyncio.sleep(0)


async def send_messages(
    gateway: RunningGateway, path: str, messages: Iterator[str | bytes], number: int = 0
) -> None:
    """Send messages and some samples, then leave, in half of the cases without a word."""
    protocols = [Subprotocol(name) for name in (*pcm.PLATFORMS,) if name]
    chosen = [protocols[number % len(protocols)]] if path == "/pcm" else None
    headers = twilio_calls.sign() if path == "/twilio" else {"x-api-key": "any"}
    with contextlib.suppress(WebSocketException):
        async with connect(
            f"ws://{gateway.address}{path}",
            subprotocols=chosen,
            additional_headers=headers,
            proxy=None,
        ) as socket:
            for message in messages:
                await socket.send(message)
            for frame in split(SAMPLES, 320):
                await socket.send(frame)
            if number % 2:
                socket.transport.abort()


async def test_audiohook_outlives_hostile_sessions(
    server: SaysoServer, tmp_path: Path, logged: pytest.LogCaptureFixture
) -> None:
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text(f"{API_KEY} {CLIENT_SECRET}\n")
    chance = random.Random(20)
    async with run_gateway(server, audiohook_keys=keys) as gateway:
        for _ in range(INPUTS):
            with contextlib.suppress(WebSocketException):
                async with AudioHookClient(gateway.address) as client:
                    if chance.random() < 0.7:
                        await client.open(inputVariables={"speaker_id": "slt"})
                    kinds = ["ping", "paused", "resumed", "close", "error", "open", "update", "x"]
                    for _ in range(chance.randrange(5)):
                        await client.send(chance.choice(kinds), {"reason": "end", "message": 1})
                        await client.socket.send(chance.randbytes(chance.randrange(500)))
                        await client.socket.send(
                            damage(chance, b'{"version":"2"}').decode("latin-1")
                        )
                    client.socket.transport.abort()
        async with asyncio.timeout(10.0):
            while len(gateway.calls):
                await asyncio.sleep(0.02)
