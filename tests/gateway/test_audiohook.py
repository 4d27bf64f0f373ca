"""Genesys AudioHook: sessions by a client that counts and signs as the protocol's page says."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from gateway.server import RunningGateway
from tests.support.audiohook_client import (
    API_KEY,
    BOTH,
    CLIENT_SECRET,
    EXTERNAL,
    ORGANIZATION,
    AudioHookClient,
)
from tests.support.call_audio import split
from tests.support.gateways import read_outcomes, run_gateway
from tests.support.sayso_server import SaysoServer

SPEAKS = {"inputVariables": {"speaker_id": "slt"}}


@pytest.fixture
async def gateway(server: SaysoServer, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    keys = tmp_path / "audiohook-keys"
    keys.touch(mode=0o600)
    keys.write_text(f"{API_KEY} {CLIENT_SECRET}\n")
    async with run_gateway(server, audiohook_keys=keys) as running:
        yield running


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "gateway")
    return caplog


async def send_audio(client: AudioHookClient, audio: bytes, size: int = 1600) -> None:
    for packet in split(audio, size):
        await client.socket.send(packet)


async def test_a_session_is_verified(
    gateway: RunningGateway, server: SaysoServer, caller: bytes, logged: pytest.LogCaptureFixture
) -> None:
    client = AudioHookClient(gateway.address)
    with server.client() as sayso:
        sayso.announce_call(client.conversation, ["rms", "slt"])
    async with client:
        opened = await client.open()
        assert opened["type"] == "opened"
        assert opened["parameters"]["media"] == [EXTERNAL], "exactly one, as it was offered"
        await client.send("ping", {})
        pong = await client.receive()
        assert (pong["type"], pong["clientseq"]) == ("pong", 2)
        await send_audio(client, caller)
        await client.close()
    assert client.outcomes[-1] == "ACCEPTED"
    [*_, event] = [message for message in client.said if message["type"] == "event"]
    assert event["parameters"]["entities"][0]["data"]["matched_speaker_id"] == "slt"
    assert read_outcomes(logged) == {client.conversation: "ACCEPTED"}


async def test_of_two_channels_the_customers_is_heard(
    gateway: RunningGateway, caller: bytes, impostor: bytes
) -> None:
    length = min(len(caller), len(impostor))
    both = np.stack(
        [np.frombuffer(audio[:length], np.uint8) for audio in (caller, impostor)], axis=1
    ).tobytes()
    async with AudioHookClient(gateway.address) as client:
        opened = await client.open(media=[BOTH], **SPEAKS)
        assert opened["parameters"]["media"] == [BOTH]
        await send_audio(client, both)
        await client.close()
    assert client.outcomes[-1] == "ACCEPTED"


async def test_after_the_decision_the_client_is_asked_to_close(
    gateway: RunningGateway, caller: bytes
) -> None:
    async with AudioHookClient(gateway.address) as client:
        await client.open(**SPEAKS)

        async def talk() -> None:
            for packet in split(caller * 3, 1600):
                await client.socket.send(packet)
                await asyncio.sleep(0.01)

        talking = asyncio.create_task(talk())
        async with asyncio.timeout(20.0):
            ended = await client.receive_until("disconnect")
        talking.cancel()
        assert ended["parameters"]["reason"] == "completed"
        assert client.outcomes[-1] == "ACCEPTED"
        await client.close()


async def test_a_probe_is_no_call(
    gateway: RunningGateway, logged: pytest.LogCaptureFixture
) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"
    async with AudioHookClient(gateway.address, conversation=nobody) as client:
        opened = await client.open(participant={"id": nobody, "ani": "", "dnis": ""})
        assert opened["type"] == "opened"
        await client.close()
    assert not logged.records


async def test_a_paused_session_goes_on_later(gateway: RunningGateway, caller: bytes) -> None:
    async with AudioHookClient(gateway.address) as client:
        await client.open(**SPEAKS)
        await send_audio(client, caller[:8000])
        await client.send("paused", {})
        await client.send("resumed", {"start": "PT1S", "discarded": "PT2S"})
        await client.send("discarded", {"start": "PT3S", "discarded": "PT1S"})
        await client.send("update", {"language": "en-US"})
        assert (await client.receive_until("updated"))["type"] == "updated"
        await send_audio(client, caller[8000:])
        await client.close()
    assert client.outcomes[-1] == "ACCEPTED"


async def test_a_conversation_of_nobody_is_not_verified(gateway: RunningGateway) -> None:
    async with AudioHookClient(gateway.address) as client:
        said = await client.open()
        assert (said["type"], said["parameters"]["reason"]) == ("disconnect", "completed")
        await client.close()


@pytest.mark.parametrize(
    "signing",
    [{"secret": "AAAA"}, {"key": "other"}, {"created": 1.0}, {"target": "/other"}],
)
async def test_an_unsigned_session_is_refused_after_a_while(
    gateway: RunningGateway, signing: dict[str, Any]
) -> None:
    began = asyncio.get_running_loop().time()
    async with AudioHookClient(gateway.address, **signing) as client:
        said = await client.receive()
        assert (said["type"], said["parameters"]["reason"]) == ("disconnect", "unauthorized")
        assert asyncio.get_running_loop().time() - began >= 0.5


async def test_a_signature_is_of_one_organization(gateway: RunningGateway) -> None:
    async with AudioHookClient(gateway.address) as client:
        said = await client.open(organizationId=ORGANIZATION[::-1])
        assert (said["type"], said["parameters"]["reason"]) == ("disconnect", "error")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("ping", {"seq": 3}),
        ("ping", {"seq": 1}),
        ("ping", {"seq": "2x"}),
        ("ping", {"serverseq": 9}),
        ("ping", {"id": "another"}),
        ("ping", {"version": "1"}),
        ("ping", {"parameters": []}),
        ("ping", {"type": None}),
        ("open", {}),
    ],
)
async def test_messages_that_do_not_follow_end_the_session(
    gateway: RunningGateway, kind: str, changes: dict[str, Any]
) -> None:
    async with AudioHookClient(gateway.address) as client:
        await client.open(**SPEAKS)
        await client.send(kind, {}, **changes)
        said = await client.receive_until("disconnect")
        assert said["parameters"]["reason"] == "error"


@pytest.mark.parametrize("media", [[], None, "PCMU", [{**EXTERNAL, "format": "L16"}], [[EXTERNAL]]])
async def test_media_that_cannot_be_heard(gateway: RunningGateway, media: Any) -> None:
    async with AudioHookClient(gateway.address) as client:
        said = await client.open(media=media, **SPEAKS)
        assert (said["type"], said["parameters"]["reason"]) == ("disconnect", "error")


async def test_audio_before_open_or_while_paused_is_an_error(gateway: RunningGateway) -> None:
    async with AudioHookClient(gateway.address) as client:
        await client.socket.send(b"\xff" * 160)
        assert (await client.receive())["parameters"]["reason"] == "error"
    async with AudioHookClient(gateway.address) as client:
        await client.open(**SPEAKS)
        await client.send("paused", {})
        await client.socket.send(b"\xff" * 160)
        assert (await client.receive_until("disconnect"))["parameters"]["reason"] == "error"


async def test_a_message_is_no_larger_than_the_protocol_allows(gateway: RunningGateway) -> None:
    async with AudioHookClient(gateway.address) as client:
        await client.open(**SPEAKS)
        with pytest.raises(ConnectionClosed) as closed:
            await client.socket.send(json.dumps({"padding": "x" * 70_000}))
            await client.socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
