"""Telnyx, Plivo, SignalWire, Exotel, Bandwidth and Vonage, as their pages have them."""

import asyncio
import base64
import json
import logging
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.connectors import dialects, twilio
from gateway.connectors.dialects import InOrder
from gateway.connectors.streams import Media
from gateway.server import RunningGateway
from tests.support import pipecat_serializers
from tests.support.call_audio import read_pcm, split
from tests.support.gateways import read_outcomes, run_gateway
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

PATH_END = "a-token-of-twenty-characters"


@pytest.fixture
async def gateway(server: SaysoServer, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    tokens = tmp_path / "stream-tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(f"another-token-of-the-operator\n{PATH_END}\n")
    async with run_gateway(server, stream_tokens=tokens) as running:
        yield running


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "gateway")
    return caplog


@pytest.fixture(scope="session")
def samples() -> bytes:
    return read_pcm(*clips("slt", "verify"), *clips("slt", "enroll"))


def encode(audio: bytes) -> str:
    return base64.b64encode(audio).decode()


def telnyx(caller: bytes, samples: bytes) -> Iterator[dict[str, Any]]:
    """Frames arrive out of order, some twice, and with those of the other track between."""
    yield {"event": "connected", "version": "1.0.0"}
    start = {
        "call_control_id": "call",
        "from": "+49301",
        "to": "+49302",
        "custom_parameters": {"speaker_id": "slt"},
        "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
    }
    yield {"event": "start", "sequence_number": "1", "stream_id": "s", "start": start}
    frames = list(enumerate(split(caller), start=1))
    chance = random.Random(1)
    shuffled = sorted(frames, key=lambda frame: frame[0] + chance.uniform(0, 6))
    for chunk, frame in shuffled:
        media = {"track": "inbound", "chunk": str(chunk), "payload": encode(frame)}
        yield {"event": "media", "stream_id": "s", "media": media}
        yield {"event": "media", "stream_id": "s", "media": media | {"track": "outbound"}}
    yield {"event": "stop", "stream_id": "s", "stop": {"call_control_id": "call"}}


def plivo(caller: bytes, samples: bytes) -> Iterator[dict[str, Any]]:
    fmt = {"encoding": "audio/x-l16", "sampleRate": 8000}
    start = {"streamId": "s", "callId": "call", "tracks": ["inbound"], "mediaFormat": fmt}
    yield {"event": "start", "sequenceNumber": 0, "start": start, "extra_headers": "{}"}
    for chunk, frame in enumerate(split(samples, 320), start=1):
        media = {"track": "inbound", "chunk": chunk, "timestamp": "1", "payload": encode(frame)}
        yield {"event": "media", "streamId": "s", "media": media, "extra_headers": "{}"}
    yield {"event": "stop"}


def signalwire(caller: bytes, samples: bytes) -> Iterator[dict[str, Any]]:
    start = {"streamSid": "s", "callSid": "call", "customParameters": {"speaker_id": "slt"}}
    yield {"event": "start", "start": start}
    for chunk, frame in enumerate(split(caller), start=1):
        media = {"track": "inbound", "chunk": str(chunk), "payload": encode(frame)}
        yield {"event": "media", "streamSid": "s", "media": media}
    yield {"event": "stop"}


def exotel(caller: bytes, samples: bytes) -> Iterator[dict[str, Any]]:
    yield {"event": "connected"}
    start = {
        "stream_sid": "s",
        "call_sid": "call",
        "account_sid": "a",
        "custom_parameters": {"speaker_id": "slt"},
        "media_format": {"encoding": "base64", "sample_rate": "8000", "bit_rate": "128kbps"},
    }
    yield {"event": "start", "sequence_number": 1, "stream_sid": "s", "start": start}
    for chunk, frame in enumerate(split(samples, 3200), start=1):
        yield {"event": "media", "media": {"chunk": chunk, "payload": encode(frame)}}
    yield {"event": "stop", "stop": {"call_sid": "call", "reason": "callended"}}


def bandwidth(caller: bytes, samples: bytes) -> Iterator[dict[str, Any]]:
    metadata = {
        "accountId": "a",
        "callId": "call",
        "streamId": "s",
        "tracks": [{"name": "inbound"}],
    }
    yield {"eventType": "start", "metadata": metadata, "streamParams": {"speaker_id": "slt"}}
    for frame in split(caller):
        yield {"eventType": "media", "track": "inbound", "payload": encode(frame)}
        yield {"eventType": "media", "track": "outbound", "payload": encode(frame[::-1])}
    yield {"eventType": "stop", "metadata": metadata}


VENDORS = {each.__name__: each for each in (telnyx, plivo, signalwire, exotel, bandwidth)}


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_call_is_verified(
    gateway: RunningGateway,
    server: SaysoServer,
    vendor: str,
    caller: bytes,
    samples: bytes,
    logged: pytest.LogCaptureFixture,
) -> None:
    if vendor == "plivo":
        with server.client() as sayso:
            sayso.announce_call("call", "slt")
    url = f"ws://{gateway.address}/{vendor}/{PATH_END}"
    async with connect(url, proxy=None) as socket:
        for message in VENDORS[vendor](caller, samples):
            await socket.send(json.dumps(message))
        async with asyncio.timeout(20.0):
            assert [message async for message in socket] == []
    assert read_outcomes(logged) == {"call": "ACCEPTED"}
    assert PATH_END not in logged.text


async def test_vonage_sends_samples(
    gateway: RunningGateway, samples: bytes, logged: pytest.LogCaptureFixture
) -> None:
    first = {
        "event": "websocket:connected",
        "content-type": "audio/l16;rate=8000",
        "call_id": "call",
        "speaker_id": "slt",
    }
    async with connect(f"ws://{gateway.address}/vonage/{PATH_END}", proxy=None) as socket:
        await socket.send(json.dumps(first))
        for frame in split(samples, 320):
            await socket.send(frame)
        await socket.send(json.dumps({"event": "websocket:dtmf", "digit": "5"}))
    while not read_outcomes(logged):
        await asyncio.sleep(0.02)
    assert read_outcomes(logged) == {"call": "ACCEPTED"}


@pytest.mark.parametrize("vendor", [*VENDORS, "vonage"])
async def test_a_wrong_token_is_refused(gateway: RunningGateway, vendor: str) -> None:
    for end in ("wrong", PATH_END[:-1], ""):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{gateway.address}/{vendor}/{end}", proxy=None)
        assert refused.value.response.status_code == 403


@given(st.permutations(range(1, 41)), st.integers(0, 4))
def test_frames_within_the_window_come_out_in_order(chunks: list[int], spread: int) -> None:
    jittered = sorted(range(1, 41), key=lambda chunk: chunk + chunks[chunk - 1] % (spread + 1))
    order = InOrder()
    heard = [each.chunk for chunk in jittered for each in order.add(Media(b"", chunk))]
    assert heard + [each.chunk for each in order.rest()] == list(range(1, 41))


@given(st.lists(st.integers(0, 60), max_size=120))
def test_no_frame_is_heard_twice_or_out_of_order(chunks: list[int]) -> None:
    order = InOrder()
    heard = [each.chunk for chunk in chunks for each in order.add(Media(b"", chunk))]
    heard += [each.chunk for each in order.rest()]
    assert heard == sorted(set(heard))
    assert len(order._early) <= 10


def test_a_lost_frame_is_not_waited_for_for_ever() -> None:
    order = InOrder()
    heard = [each.chunk for chunk in range(3, 30) for each in order.add(Media(b"", chunk))]
    assert heard[0] == 3
    assert heard[-1] == 29


@pytest.mark.skipif(not pipecat_serializers.AVAILABLE, reason="pipecat-ai is not installed")
@pytest.mark.parametrize("vendor", ["twilio", "telnyx", "exotel"])
async def test_pipecat_hears_the_same(vendor: str, caller: bytes, samples: bytes) -> None:
    """Its serializers resample nothing at 8 kHz, and decode as we leave it to the server."""
    calls = VENDORS | {"twilio": signalwire}
    parse = twilio.parse_event if vendor == "twilio" else dialects.DIALECTS[vendor][0]
    serializer = pipecat_serializers.make_serializer(vendor)
    sent = [message for message in calls[vendor](caller, samples) if message["event"] == "media"]
    for message in sent[:20:2]:
        event = parse(message)
        assert isinstance(event, Media)
        heard = await pipecat_serializers.read_samples(serializer, message)
        if vendor == "exotel":
            assert np.array_equal(heard, np.frombuffer(event.audio, "<i2"))
        else:
            assert len(heard) == len(event.audio)
