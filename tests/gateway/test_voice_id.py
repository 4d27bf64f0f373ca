"""Amazon Connect Voice ID's API, asked by boto3 with nothing changed but `endpoint_url`."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from gateway.server import RunningGateway
from tests.support import voice_id_client
from tests.support.gateways import run_gateway
from tests.support.keys import create
from tests.support.sayso_server import SaysoServer
from tests.support.twilio_calls import PUBLIC_URL, make_call, make_start, send_call
from tests.support.twilio_calls import sign as sign_call
from tests.support.voice_id_client import DOMAIN_ID, KEY_ID, SECRET, make_client, read_error, sign
from tests.support.voices import clips

pytestmark = pytest.mark.skipif(
    not voice_id_client.AVAILABLE, reason="boto3 is not installed: make dev"
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return {
        "path": str(path),
        "bank": create(path, "bank", "verify", "enroll", "analyze"),
        "shop": create(path, "shop", "verify", "enroll"),
    }


@pytest.fixture(scope="module")
def secured(
    keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SaysoServer]:
    """A server of two tenants; bank has the voice slt."""
    from sayso import Client  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("secured")
    with SaysoServer(
        store=f"sqlite:///{folder / 'sayso.db'}", keys=keys["path"], lock_after_failures=0
    ) as running:
        with Client(running.address, credential=keys["bank"]) as sayso:
            for clip in clips("slt", "enroll"):
                sayso.enroll("slt", clip)
        yield running


@pytest.fixture
async def gateway(
    secured: SaysoServer, keys: dict[str, str], auth_tokens: Path, tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    pairs = tmp_path / "voice-id-keys"
    pairs.touch(mode=0o600)
    pairs.write_text(f"{KEY_ID} {SECRET} {keys['bank']}\nAKIDSHOP shopsecret {keys['shop']}\n")
    async with run_gateway(
        secured,
        voice_id_keys=pairs,
        credential=keys["bank"],
        twilio_auth_tokens=auth_tokens,
        public_url=PUBLIC_URL,
    ) as running:
        yield running


async def ask(gateway: RunningGateway, operation: str, **fields: Any) -> dict[str, Any]:
    client = make_client(gateway.address)
    call: Callable[..., dict[str, Any]] = getattr(client, operation)
    return await asyncio.to_thread(call, DomainId=DOMAIN_ID, **fields)


async def fail(ask: Callable[[], Any]) -> tuple[str, int]:
    with pytest.raises(voice_id_client.ClientError) as refused:
        await asyncio.to_thread(ask)
    return read_error(refused.value)


async def play(gateway: RunningGateway, call_id: str, speaker_id: str, audio: bytes) -> None:
    url = f"ws://{gateway.address}/twilio"
    async with connect(url, additional_headers=sign_call(), proxy=None) as socket:
        await send_call(socket, make_call(make_start(call_id, speaker_id=speaker_id), audio))
        await socket.wait_closed()


async def test_a_call_is_evaluated(gateway: RunningGateway, caller: bytes, impostor: bytes) -> None:
    await play(gateway, "c0ffee-true", "slt", caller)
    await play(gateway, "c0ffee-false", "slt", impostor)
    await play(gateway, "c0ffee-nobody", "nobody", caller)
    answers = {
        name: await ask(gateway, "evaluate_session", SessionNameOrId=f"c0ffee-{name}")
        for name in ("true", "false", "nobody")
    }
    results = {name: answer["AuthenticationResult"] for name, answer in answers.items()}
    assert {name: result["Decision"] for name, result in results.items()} == {
        "true": "ACCEPT",
        "false": "REJECT",
        "nobody": "SPEAKER_NOT_ENROLLED",
    }
    threshold = results["true"]["Configuration"]["AcceptanceThreshold"]
    assert results["false"]["Score"] < threshold <= results["true"]["Score"]
    assert results["true"]["CustomerSpeakerId"] == "slt"
    assert answers["true"]["StreamingStatus"] == "ENDED"
    assert (
        results["true"]["AudioAggregationEndedAt"] >= results["true"]["AudioAggregationStartedAt"]
    )


async def test_a_call_in_progress_is_ongoing(gateway: RunningGateway, caller: bytes) -> None:
    url = f"ws://{gateway.address}/twilio"
    *messages, _stop = make_call(make_start("c0ffee-now", speaker_id="slt"), caller)
    async with connect(url, additional_headers=sign_call(), proxy=None) as socket:
        await send_call(socket, iter(messages[:40]))
        async with asyncio.timeout(10.0):
            while not len(gateway.calls):
                await asyncio.sleep(0.02)
        answer = await ask(gateway, "evaluate_session", SessionNameOrId="c0ffee-now")
    assert answer["StreamingStatus"] == "ONGOING"
    assert answer["AuthenticationResult"]["Decision"] == "NOT_ENOUGH_SPEECH"


async def test_another_tenants_call_is_not_found(gateway: RunningGateway, caller: bytes) -> None:
    await play(gateway, "c0ffee-bank", "slt", caller)
    shop = make_client(gateway.address, key_id="AKIDSHOP", secret="shopsecret")
    for name in ("c0ffee-bank", "c0ffee-unknown"):
        ask_for = partial(shop.evaluate_session, DomainId=DOMAIN_ID, SessionNameOrId=name)
        assert await fail(ask_for) == ("ResourceNotFoundException", 400)
    assert await fail(lambda: shop.describe_speaker(DomainId=DOMAIN_ID, SpeakerId="slt")) == (
        "ResourceNotFoundException",
        400,
    )


async def test_the_life_of_a_speaker(gateway: RunningGateway, secured: SaysoServer) -> None:
    answer = await ask(gateway, "describe_speaker", SpeakerId="slt")
    speaker = answer["Speaker"]
    assert (speaker["Status"], speaker["DomainId"]) == ("ENROLLED", DOMAIN_ID)
    assert speaker["CreatedAt"] <= speaker["UpdatedAt"]
    for name in ("27-1", "27-2"):
        opted = await ask(gateway, "opt_out_speaker", SpeakerId=name)
        assert opted["Speaker"]["Status"] == "OPTED_OUT"
    pages, token = [], {}
    while True:
        page = await ask(gateway, "list_speakers", MaxResults=1, **token)
        pages.append([each["CustomerSpeakerId"] for each in page["SpeakerSummaries"]])
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert [name for page in pages for name in page] == ["27-1", "27-2", "slt"]
    for name in ("27-1", "27-2"):
        await ask(gateway, "delete_speaker", SpeakerId=name)
    client = make_client(gateway.address)
    assert await fail(lambda: client.delete_speaker(DomainId=DOMAIN_ID, SpeakerId="27-1")) == (
        "ResourceNotFoundException",
        400,
    )


async def test_what_has_no_counterpart_says_so(gateway: RunningGateway) -> None:
    client = make_client(gateway.address)
    with pytest.raises(voice_id_client.ClientError, match=r"no counterpart of ListWatchlists"):
        await asyncio.to_thread(client.list_watchlists, DomainId=DOMAIN_ID)
    with pytest.raises(voice_id_client.ClientError, match="name the CustomerSpeakerId"):
        await asyncio.to_thread(
            client.describe_speaker, DomainId=DOMAIN_ID, SpeakerId="id#" + "a" * 22
        )


@pytest.mark.parametrize(
    ("key_id", "secret", "code"),
    [
        (KEY_ID, "another", "InvalidSignatureException"),
        ("AKIDNOBODY", SECRET, "UnrecognizedClientException"),
        ("AKIDSHOP", SECRET, "InvalidSignatureException"),
    ],
)
async def test_another_key_is_refused(
    gateway: RunningGateway, key_id: str, secret: str, code: str
) -> None:
    client = make_client(gateway.address, key_id=key_id, secret=secret)
    assert await fail(lambda: client.describe_speaker(DomainId=DOMAIN_ID, SpeakerId="slt")) == (
        code,
        403,
    )


HEADERS = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": "VoiceID.DescribeSpeaker",
}


async def post(gateway: RunningGateway, body: bytes, headers: Any) -> tuple[int, str]:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"http://{gateway.address}/", content=body, headers=headers)
    return answer.status_code, answer.json()["__type"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 60_000, b"[]", b"null", b"\xff\xfe", b'"x"', b"1e999"],
)
async def test_a_signed_body_that_is_no_object(gateway: RunningGateway, body: bytes) -> None:
    headers = sign(f"http://{gateway.address}/", body, HEADERS)
    assert await post(gateway, body, headers) == (400, "SerializationException")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"DomainId": 7, "SpeakerId": "slt"},
        {"DomainId": "short", "SpeakerId": "slt"},
        {"DomainId": DOMAIN_ID},
        {"DomainId": DOMAIN_ID, "SpeakerId": ["slt"]},
        {"DomainId": DOMAIN_ID, "SpeakerId": "a" * 129},
        {"DomainId": DOMAIN_ID, "SpeakerId": "a\nb"},
    ],
)
async def test_fields_that_cannot_be(gateway: RunningGateway, fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    headers = sign(f"http://{gateway.address}/", body, HEADERS)
    assert await post(gateway, body, headers) == (400, "ValidationException")


async def test_what_is_signed_cannot_be_changed(gateway: RunningGateway) -> None:
    body = json.dumps({"DomainId": DOMAIN_ID, "SpeakerId": "slt"}).encode()
    headers = sign(f"http://{gateway.address}/", body, HEADERS)
    wrong = (403, "InvalidSignatureException")
    assert await post(gateway, body + b" ", headers) == wrong
    changed = headers | {"X-Amz-Target": "VoiceID.DeleteSpeaker"}
    assert await post(gateway, body, changed) == wrong
    assert await post(gateway, body, headers | {"X-Amz-Date": "20200101T000000Z"}) == wrong
    other = sign(f"http://{gateway.address}/", body, HEADERS, service="s3")
    assert await post(gateway, body, other) == wrong
    bare = sign(f"http://{gateway.address}/", body, {})  # the operation is not signed
    assert await post(gateway, body, bare | HEADERS) == (403, "IncompleteSignatureException")
    assert await post(gateway, body, HEADERS) == (403, "MissingAuthenticationTokenException")
    assert await post(gateway, body, headers | {"Authorization": "AWS4-HMAC-SHA256 x"}) == (
        403,
        "IncompleteSignatureException",
    )


async def test_a_large_body_is_refused(gateway: RunningGateway) -> None:
    body = b" " * 70_000
    headers = sign(f"http://{gateway.address}/", body, HEADERS)
    assert await post(gateway, body, headers) == (413, "ValidationException")
