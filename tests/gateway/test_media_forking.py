"""Webex Contact Center and Five9 over gRPC: scripted clients against a real gateway and server."""

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from grpc_health.v1 import health_pb2, health_pb2_grpc
from jwt.utils import base64url_encode

from gateway.connectors.media_forking.five9_pb2 import (
    StreamingConfig,
    StreamingStatus,
    StreamingVoiceRequest,
    StreamingVoiceResponse,
    VoiceConfig,
)
from gateway.connectors.media_forking.listener import FIVE9, WEBEX
from gateway.connectors.media_forking.webex_pb2 import (
    AGENT,
    CALLER,
    INVALID_AUDIO_FORMAT,
    MULAW_FORMAT,
    AudioStream,
    ConversationAudioForkingRequest,
    ConversationAudioForkingResponse,
)
from gateway.connectors.media_forking.webex_tokens import SCHEMA_ID, KeyRing, fetch_keys
from gateway.server import RunningGateway
from tests.support.call_audio import read_pcm, split
from tests.support.gateways import read_outcomes, run_gateway
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

URL = "https://voice.example.com:8444"
TRUST = "five9-trust-token-0123456789"
KEY, OTHER_KEY = (rsa.generate_private_key(65537, 2048) for _ in range(2))


class Broker:
    """Webex's identity broker: gives its keys, and counts who asks."""

    def __init__(self) -> None:
        self.issuer = ""
        self.asked = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
        return web.json_response({"keys": [public | {"kid": "k1", "use": "sig"}]})


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    made = Broker()
    app = web.Application()
    app.router.add_get("/idb/oauth2/v2/keys/verificationjwk", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}/idb"
    yield made
    await runner.cleanup()


@pytest.fixture
async def gateway(
    server: SaysoServer, broker: Broker, tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    tokens = tmp_path / "five9"
    tokens.touch(mode=0o600)
    tokens.write_text(f"{TRUST}\n")
    async with run_gateway(
        server,
        forks_listen="127.0.0.1:0",
        webex_url=URL,
        webex_issuers=broker.issuer,
        five9_tokens=tokens,
        start_s=1.0,
        max_pause_s=1.0,
        reconnect_s=0.5,
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.INFO, "gateway")
    yield caplog
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.fixture(scope="session")
def samples() -> bytes:
    return read_pcm(*clips("slt", "verify"), *clips("slt", "enroll"))


def make_token(broker: Broker, key: Any = KEY, **changes: Any) -> str:
    claims = {
        "iss": broker.issuer,
        "exp": int(time.time()) + 600,
        "com.cisco.datasource.url": URL,
        "com.cisco.datasource.schema.uuid": SCHEMA_ID,
    }
    kept = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(kept, key, algorithm="RS256", headers={"kid": "k1"})


def make_webex(call_id: str, caller: bytes, agent: bytes, **audio: Any) -> list[Any]:
    fields = {"encoding": MULAW_FORMAT, "sample_rate_hertz": 8000} | audio
    made = []
    for ours, theirs in zip(split(caller, 1600), split(agent, 1600), strict=False):
        for role, data in ((AGENT, theirs), (CALLER, ours)):
            stream = AudioStream(audio_data=data, role=role, **fields)
            made.append(ConversationAudioForkingRequest(conversation_id=call_id, audio=stream))
    return made


async def call_webex(gateway: RunningGateway, token: str | None, sent: list[Any]) -> list[Any]:
    async with grpc.aio.insecure_channel(gateway.forks or "") as channel:
        rpc = channel.stream_stream(
            f"/{WEBEX}/StreamConversationAudio",
            request_serializer=lambda message: (
                message if isinstance(message, bytes) else message.SerializeToString()
            ),
            response_deserializer=ConversationAudioForkingResponse.FromString,
        )
        metadata = [] if token is None else [("authorization", token)]
        return [answer async for answer in rpc(iter(sent), metadata=metadata, timeout=20)]


async def fail(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value.code()


async def test_webex_verifies_the_caller_alone(
    gateway: RunningGateway,
    server: SaysoServer,
    broker: Broker,
    caller: bytes,
    impostor: bytes,
    logged: pytest.LogCaptureFixture,
) -> None:
    """Two calls, each with the other's voice as the agent's; one response each, at the end."""
    with server.client() as sayso:
        for call_id in ("wx-true", "wx-false"):
            sayso.announce_call(call_id, "slt")
    token = make_token(broker)
    for call_id, voices in (("wx-true", (caller, impostor)), ("wx-false", (impostor, caller))):
        [answer] = await call_webex(gateway, token, make_webex(call_id, *voices))
        assert (answer.status_message, answer.error_code) == ("SUCCESS", 0)
    assert read_outcomes(logged) == {"wx-true": "ACCEPTED", "wx-false": "REJECTED"}
    assert broker.asked == 1


async def test_a_call_that_was_not_announced_is_refused(
    gateway: RunningGateway, broker: Broker, caller: bytes
) -> None:
    sent = make_webex("wx-unknown", caller[:1600], caller[:1600])
    code = await fail(call_webex(gateway, make_token(broker), sent))
    assert code == grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"iss": "https://idbroker.example.com/idb"}, "the issuer of the token is none"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, 'missing the "exp" claim'),
        ({"com.cisco.datasource.url": "https://other.example.com"}, "of another URL"),
        ({"com.cisco.datasource.url": None}, "of another URL"),
        ({"com.cisco.datasource.schema.uuid": "x"}, "for another schema"),
        ({"key": OTHER_KEY}, "Signature verification failed"),
    ],
)
async def test_tokens_that_are_refused(
    gateway: RunningGateway,
    broker: Broker,
    changes: dict[str, Any],
    says: str,
    logged: pytest.LogCaptureFixture,
) -> None:
    token = make_token(broker, **changes)
    code = await fail(call_webex(gateway, token, []))
    assert code == grpc.StatusCode.UNAUTHENTICATED
    assert says in logged.text
    assert broker.asked == (0 if "iss" in changes else 1), "keys come of allowed issuers alone"


async def test_no_token_and_other_algorithms(gateway: RunningGateway, broker: Broker) -> None:
    claims = {"iss": broker.issuer, "exp": int(time.time()) + 600}
    none = jwt.encode(claims, "", algorithm="none")
    symmetric = jwt.encode(claims, "x" * 64, algorithm="HS256", headers={"kid": "k1"})
    nested = base64url_encode(b"[" * 3000).decode()
    nests = (f"{nested}.e30.", f"{none.partition('.')[0]}.{nested}.")
    for token in (None, "x", "a.b.c", none, symmetric, *nests, f"Bearer {make_token(broker)}"):
        code = await fail(call_webex(gateway, token, []))
        assert code == grpc.StatusCode.UNAUTHENTICATED, token
    assert broker.asked == 0


async def test_webex_is_told_of_audio_that_is_not_taken(
    gateway: RunningGateway, server: SaysoServer, broker: Broker, caller: bytes
) -> None:
    token = make_token(broker)
    said = caller[:1600]
    for audio in ({"sample_rate_hertz": 44100}, {"encoding": 0}, {"encoding": 9}):
        [answer] = await call_webex(gateway, token, make_webex("wx", said, said, **audio))
        assert answer.error_code == INVALID_AUDIO_FORMAT


async def test_silence_ends_a_stream(gateway: RunningGateway, broker: Broker) -> None:
    async def wait() -> AsyncIterator[Any]:
        await asyncio.sleep(5)
        yield ConversationAudioForkingRequest()

    async with grpc.aio.insecure_channel(gateway.forks or "") as channel:
        rpc = channel.stream_stream(f"/{WEBEX}/StreamConversationAudio")
        answers = rpc(wait(), metadata=[("authorization", make_token(broker))], timeout=10)
        assert await fail(answers.read()) == grpc.StatusCode.INVALID_ARGUMENT


async def play_five9(
    gateway: RunningGateway,
    sent: list[Any],
    *,
    leg: Any = StreamingConfig.CUSTOMER,
    call_id: str = "f9",
    metadata: str | None = None,
    token: str = "",
    breaks: bool = False,
) -> list[int]:
    """The codes that are answered; audio is sent once that is asked for, as Five9 does."""
    config = StreamingConfig(
        voice_config=VoiceConfig(encoding=VoiceConfig.LINEAR16, sample_rate_hertz=8000),
        vcc_call_id=call_id,
        domain_id="d",
        call_leg=leg,
        trust_token=token,
    )
    async with grpc.aio.insecure_channel(gateway.forks or "") as channel:
        rpc = channel.stream_stream(
            f"/{FIVE9}/StreamingVoice",
            request_serializer=StreamingVoiceRequest.SerializeToString,
            response_deserializer=StreamingVoiceResponse.FromString,
        )
        shown = [("x-five9-trust-token", metadata)] if metadata else []
        call = rpc(metadata=shown, timeout=20)
        await call.write(StreamingVoiceRequest(streaming_config=config))
        codes: list[int] = []
        async for answer in call:
            codes.append(answer.status.code)
            if answer.status.code != StreamingStatus.SRV_REQ_START_STREAMING:
                continue
            for message in sent:
                await call.write(message)
            if breaks:
                await asyncio.sleep(0.3)
                call.cancel()
                return codes
            await call.done_writing()
        return codes


def make_five9(samples: bytes) -> list[Any]:
    audio = [StreamingVoiceRequest(audio_content=data) for data in split(samples, 3200)]
    ended = StreamingStatus(code=StreamingStatus.CLT_CALL_ENDED)
    return [*audio, StreamingVoiceRequest(streaming_status=ended)]


@pytest.mark.parametrize("shown", [{"metadata": TRUST}, {"token": TRUST}])
async def test_five9_verifies_the_customers_side(
    gateway: RunningGateway,
    server: SaysoServer,
    samples: bytes,
    shown: dict[str, Any],
    logged: pytest.LogCaptureFixture,
) -> None:
    with server.client() as sayso:
        sayso.announce_call("f9", "slt")
    sent = make_five9(samples)
    for leg in (StreamingConfig.AGENT, StreamingConfig.SUPERVISOR):
        assert await play_five9(gateway, sent, leg=leg, **shown) == [1011]
    assert await play_five9(gateway, sent, **shown) == [1001]
    assert read_outcomes(logged) == {"f9": "ACCEPTED"}


@pytest.mark.parametrize(
    "shown",
    [{}, {"token": "x" * 28}, {"metadata": "x" * 28}, {"metadata": "x" * 28, "token": TRUST}],
)
async def test_five9_shows_a_token_of_the_file(
    gateway: RunningGateway, shown: dict[str, Any]
) -> None:
    assert await fail(play_five9(gateway, [], **shown)) == grpc.StatusCode.UNAUTHENTICATED


async def test_five9_audio_on_hold_is_dropped(
    gateway: RunningGateway, server: SaysoServer, samples: bytes, logged: pytest.LogCaptureFixture
) -> None:
    with server.client() as sayso:
        sayso.announce_call("f9-hold", "slt")
    hold = StreamingStatus(code=StreamingStatus.CLT_CALL_HOLD)
    sent = [StreamingVoiceRequest(streaming_status=hold), *make_five9(samples)]
    await play_five9(gateway, sent, call_id="f9-hold", token=TRUST)
    assert "ACCEPTED" not in read_outcomes(logged).values()


async def test_a_stream_that_breaks_is_decided_on_what_was_heard(
    gateway: RunningGateway, server: SaysoServer, samples: bytes, logged: pytest.LogCaptureFixture
) -> None:
    with server.client() as sayso:
        sayso.announce_call("f9-broken", "slt")
    audio = make_five9(samples)[:-1]
    await play_five9(gateway, audio, call_id="f9-broken", token=TRUST, breaks=True)
    async with asyncio.timeout(10):
        while len(gateway.calls):
            await asyncio.sleep(0.02)
    assert read_outcomes(logged) == {"f9-broken": "ACCEPTED"}


async def test_health_is_polled(gateway: RunningGateway) -> None:
    async with grpc.aio.insecure_channel(gateway.forks or "") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", WEBEX, FIVE9):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await gateway.calls.drain(0.1)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_damaged_messages_leave_a_gateway_that_verifies(
    gateway: RunningGateway,
    server: SaysoServer,
    broker: Broker,
    caller: bytes,
    logged: pytest.LogCaptureFixture,
) -> None:
    chance, token = random.Random(21), make_token(broker)
    seed = make_webex("wx-hostile", b"\x10" * 1600, b"\x10" * 1600)[1].SerializeToString()
    for _ in range(100):
        data = bytearray(seed)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(80)] = chance.randrange(256)
        try:
            await call_webex(gateway, token, [bytes(data), seed])
        except grpc.aio.AioRpcError as error:
            assert error.code() != grpc.StatusCode.UNAUTHENTICATED
    assert not len(gateway.calls)
    with server.client() as sayso:
        sayso.announce_call("wx-after", "slt")
    await call_webex(gateway, token, make_webex("wx-after", caller, caller))
    assert read_outcomes(logged) == {"wx-after": "ACCEPTED"}


async def test_a_slow_issuer_keeps_no_other_waiting() -> None:
    released = asyncio.Event()

    async def fetch(issuer: str) -> dict[str, Any]:
        if issuer == "slow":
            await released.wait()
        return {"k1": issuer}

    ring = KeyRing(fetch)
    slow = asyncio.create_task(ring.find("slow", "k1"))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(ring.find("fast", "k1"), 5.0) == "fast"
    released.set()
    assert await slow == "slow"


async def test_keys_are_fetched_through_no_proxy(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert list(await fetch_keys(broker.issuer)) == ["k1"]


async def test_a_drain_waits_for_a_call_and_takes_no_more(
    gateway: RunningGateway,
    server: SaysoServer,
    broker: Broker,
    caller: bytes,
    logged: pytest.LogCaptureFixture,
) -> None:
    with server.client() as sayso:
        for call_id in ("wx-now", "wx-late"):
            sayso.announce_call(call_id, "slt")
    token, sent = make_token(broker), make_webex("wx-now", caller, caller)
    async with grpc.aio.insecure_channel(gateway.forks or "") as channel:
        rpc = channel.stream_stream(
            f"/{WEBEX}/StreamConversationAudio",
            request_serializer=ConversationAudioForkingRequest.SerializeToString,
        )
        call = rpc(metadata=[("authorization", token)], timeout=20)
        await call.write(sent[1])
        async with asyncio.timeout(10):
            while not len(gateway.calls):
                await asyncio.sleep(0.02)
        draining = asyncio.create_task(gateway.calls.drain(10.0))
        late = make_webex("wx-late", caller, caller)[:2]
        assert await fail(call_webex(gateway, token, late)) == grpc.StatusCode.UNAVAILABLE
        assert not draining.done()
        for message in sent[2:]:
            await call.write(message)
        await call.done_writing()
        assert await call.read()
        await asyncio.wait_for(draining, 5.0)
    assert read_outcomes(logged) == {"wx-now": "ACCEPTED"}
