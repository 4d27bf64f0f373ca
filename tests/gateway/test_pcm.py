"""Samples over WebSockets, as the pages of FreeSWITCH, jambonz and Asterisk have them."""

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sayso import Client
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.server import RunningGateway
from tests.support import keys
from tests.support.call_audio import read_pcm, split
from tests.support.gateways import read_outcomes, run_gateway
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

KEY = {"Authorization": "Bearer any"}  # the server of these tests asks for none


@pytest.fixture
async def gateway(server: SaysoServer) -> AsyncIterator[RunningGateway]:
    async with run_gateway(server, pcm=True) as running:
        yield running


@pytest.fixture(scope="session")
def samples() -> bytes:
    """The speaker slt, 16-bit at 8 kHz."""
    return read_pcm(*clips("slt", "verify"), *clips("slt", "enroll"))


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "gateway")
    return caplog


async def play(
    gateway: RunningGateway,
    first: str,
    audio: bytes,
    *,
    protocols: tuple[str, ...] = (),
    headers: dict[str, str] | None = None,
    frame_bytes: int = 320,
) -> list[dict[str, Any]]:
    """Send a call, wait for a decision or the end, and leave; the answers."""
    answers: list[dict[str, Any]] = []
    offered = [Subprotocol(protocol) for protocol in protocols] or None
    url = f"ws://{gateway.address}/pcm"
    shown = KEY if headers is None else headers
    async with connect(url, subprotocols=offered, additional_headers=shown, proxy=None) as socket:
        assert socket.subprotocol == (protocols[0] if protocols else None)

        async def read() -> None:
            async for message in socket:
                answers.append(json.loads(message))
                if answers[-1].get("data", answers[-1])["outcome"] != "INCONCLUSIVE":
                    return

        reading = asyncio.create_task(read())
        with contextlib.suppress(ConnectionClosed):
            await socket.send(first)
            for frame in split(audio, frame_bytes):
                await socket.send(frame)
            await socket.send(json.dumps({"event": "end"}))
        async with asyncio.timeout(20.0):
            with contextlib.suppress(ConnectionClosed):
                await reading
    return answers


async def test_freeswitch_gets_an_event(gateway: RunningGateway, samples: bytes) -> None:
    metadata = json.dumps({"call_id": "fs-1", "speaker_id": "slt"})
    answers = await play(gateway, metadata, samples, protocols=("audio.drachtio.org",))
    assert all(answer["type"] == "json" for answer in answers)
    last = answers[-1]["data"]
    assert (last["call_id"], last["speaker_id"], last["outcome"]) == ("fs-1", "slt", "ACCEPTED")
    assert last["decision_id"]


async def test_of_stereo_the_caller_is_heard(gateway: RunningGateway, samples: bytes) -> None:
    caller = np.frombuffer(samples, "<i2")
    callee = np.frombuffer(read_pcm(*clips("rms", "verify"), *clips("rms", "enroll")), "<i2")
    length = min(len(caller), len(callee))
    stereo = np.stack([caller[:length], callee[:length]], axis=1).tobytes()
    metadata = json.dumps({"call_id": "fs-2", "speaker_id": "slt", "channels": 2})
    (*_, last) = await play(
        gateway, metadata, stereo, protocols=("audio.drachtio.org",), frame_bytes=640
    )
    assert last["data"]["outcome"] == "ACCEPTED"


async def test_mod_audio_stream_has_no_subprotocol(gateway: RunningGateway, samples: bytes) -> None:
    metadata = json.dumps({"call_id": "fs-3", "speaker_id": "rms"})
    (*_, last) = await play(gateway, metadata, samples)
    assert (last["type"], last["outcome"]) == ("decision", "REJECTED")


async def test_jambonz_says_its_rate(gateway: RunningGateway, samples: bytes) -> None:
    wide = np.repeat(np.frombuffer(samples, "<i2"), 2).tobytes()
    attributes = {"callSid": "j-1", "sampleRate": 16000, "mixType": "mono", "speaker_id": "slt"}
    (*_, last) = await play(
        gateway, json.dumps(attributes), wide, protocols=("audio.jambonz.org",), frame_bytes=640
    )
    assert last["data"]["net_speech_s"] < 11.0, "at 8 kHz it would be twice as long"
    assert last["data"]["call_id"] == "j-1"


@pytest.mark.parametrize(
    "first",
    [
        json.dumps(
            {
                "event": "MEDIA_START",
                "connection_id": "c",
                "channel": "WebSocket/1",
                "channel_id": "ast-1",
                "format": "ulaw",
                "optimal_frame_size": 160,
                "channel_variables": {"speaker_id": "slt"},
            }
        ),
        "MEDIA_START connection_id:c channel:WebSocket/1 channel_id:ast-1 format:ulaw",
    ],
)
async def test_asterisk_is_told_nothing(
    gateway: RunningGateway,
    server: SaysoServer,
    caller: bytes,
    logged: pytest.LogCaptureFixture,
    first: str,
) -> None:
    with server.client() as sayso:
        sayso.announce_call("ast-1", "slt")
    async with connect(
        f"ws://{gateway.address}/pcm",
        subprotocols=[Subprotocol("media")],
        additional_headers={"Authorization": "Basic " + base64.b64encode(b"u:any").decode()},
        proxy=None,
    ) as socket:
        await socket.send(first)
        for frame in split(caller):
            await socket.send(frame)
        await socket.send(json.dumps({"event": "DTMF_END", "digit": "1"}))
    while not read_outcomes(logged):
        await asyncio.sleep(0.02)
    assert read_outcomes(logged) == {"ast-1": "ACCEPTED"}


async def test_a_browser_gets_every_decision(gateway: RunningGateway, samples: bytes) -> None:
    first = {"call_id": "b-1", "speaker_id": "slt", "encoding": "LINEAR16", "sample_rate": 8000}
    answers = await play(
        gateway,
        json.dumps(first),
        samples,
        protocols=("sayso.v1", "sayso.key.any"),
        headers={},
    )
    assert answers[-1]["outcome"] == "ACCEPTED"
    assert "llr" in answers[-1], "the server of these tests lets everybody see scores"


async def test_a_key_is_needed(gateway: RunningGateway) -> None:
    for headers in ({}, {"Authorization": "Basic !"}, {"Authorization": "Bearer "}):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{gateway.address}/pcm", additional_headers=headers, proxy=None)
        assert refused.value.response.status_code == 403


async def test_the_tenant_is_that_of_the_key(
    tmp_path: Path, samples: bytes, logged: pytest.LogCaptureFixture
) -> None:
    """The same call from two tenants: each finds its own announcement, the third none."""
    file = tmp_path / "keys"
    bank, shop = (keys.create(file, tenant, "verify", "enroll") for tenant in ("bank", "shop"))
    first = json.dumps({"call_id": "call-1", "sample_rate": 8000, "tenant": "bank", "policy": "x"})
    with SaysoServer(store=f"sqlite:///{tmp_path}/sayso.db", keys=file) as server:
        async with run_gateway(server, pcm=True) as gateway:
            with Client(server.address, credential=bank) as sayso:
                for path in clips("slt", "enroll"):
                    sayso.enroll("slt", path)
                sayso.announce_call("call-1", "slt")
            for key, outcomes in ((shop, []), ("wrong", []), (bank, ["ACCEPTED"])):
                answers = await play(
                    gateway,
                    first,
                    samples,
                    protocols=("sayso.v1",),
                    headers={"x-api-key": key},
                )
                assert [answer["outcome"] for answer in answers][-1:] == outcomes
    assert "was not announced" in logged.text


@pytest.mark.parametrize(
    "first",
    [
        "",
        "[]",
        "{}",
        "null",
        "[" * 50_000,
        json.dumps({"call_id": 1, "sample_rate": 8000}),
        json.dumps({"call_id": "x" * 129, "sample_rate": 8000, "speaker_id": "slt"}),
        json.dumps({"call_id": "x\n", "sample_rate": 8000, "speaker_id": "slt"}),
        json.dumps({"call_id": "x", "sample_rate": 1, "speaker_id": "slt"}),
        json.dumps({"call_id": "x", "sample_rate": "9" * 5000, "speaker_id": "slt"}),
        json.dumps({"call_id": "x", "sample_rate": 8000, "channels": 3, "speaker_id": "slt"}),
        json.dumps({"call_id": "x", "sample_rate": 8000, "encoding": "OPUS", "speaker_id": "s"}),
    ],
)
async def test_a_first_message_that_says_nothing(gateway: RunningGateway, first: str) -> None:
    async with connect(
        f"ws://{gateway.address}/pcm",
        subprotocols=[Subprotocol("sayso.v1")],
        additional_headers=KEY,
        proxy=None,
    ) as socket:
        await socket.send(first)
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code in (1002, 1008)
