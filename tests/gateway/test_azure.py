"""Azure Speaker Recognition's REST API, asked as its quickstart does."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sayso import Client

from gateway.server import RunningGateway
from gateway.shims import bodies
from tests.support.gateways import run_gateway
from tests.support.keys import create
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

VERIFICATION = "/speaker-recognition/verification/text-independent/profiles"
IDENTIFICATION = "/speaker-recognition/identification/text-independent/profiles"
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return {
        "path": str(path),
        "bank": create(path, "bank", "verify", "enroll", "analyze"),
        "plain": create(path, "bank", "verify", "enroll"),
        "verifier": create(path, "bank", "verify"),
        "shop": create(path, "shop", "verify", "enroll", "analyze"),
        "admin": create(path, "bank", "verify", "enroll", "admin"),
    }


@pytest.fixture(scope="module")
def secured(
    keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SaysoServer]:
    folder = tmp_path_factory.mktemp("secured")
    with SaysoServer(
        store=f"sqlite:///{folder / 'sayso.db'}", keys=keys["path"], lock_after_failures=0
    ) as running:
        with Client(running.address, credential=keys["admin"]) as sayso:
            sayso.groups.create("azure")
        yield running


@pytest.fixture
async def gateway(secured: SaysoServer) -> AsyncIterator[RunningGateway]:
    async with run_gateway(secured, azure=True) as running:
        yield running


@pytest.fixture
async def http(gateway: RunningGateway, keys: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=f"http://{gateway.address}",
        headers={"Ocp-Apim-Subscription-Key": keys["bank"]},
        params={"api-version": "2021-09-05"},
        trust_env=False,
        timeout=60.0,
    ) as client:
        yield client


async def create_profile(http: httpx.AsyncClient, base: str = VERIFICATION) -> str:
    answer = await http.post(base, json={"locale": "en-US"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["profileId"])


async def send(http: httpx.AsyncClient, path: str, clip: Path, **params: str) -> httpx.Response:
    content = await asyncio.to_thread(clip.read_bytes)
    return await http.post(
        path, content=content, headers={"Content-Type": "audio/wav"}, params=params
    )


async def enroll(http: httpx.AsyncClient, base: str, speaker: str) -> str:
    profile = await create_profile(http, base)
    for clip in clips(speaker, "enroll"):
        answer = await send(http, f"{base}/{profile}/enrollments", clip)
        assert answer.status_code == 201, answer.text
    return profile


async def test_verification_as_the_quickstart_goes(http: httpx.AsyncClient) -> None:
    created = await http.post(VERIFICATION, json={"locale": "en-us"})
    assert created.status_code == 201
    profile = created.json()
    place = f"{VERIFICATION}/{profile['profileId']}"
    assert created.headers["location"].endswith(place)
    assert profile["enrollmentStatus"] == "Enrolling"
    assert profile["remainingEnrollmentsSpeechLength"] > 0
    assert profile["locale"] == "en-us"
    for count, clip in enumerate(clips("slt", "enroll"), start=1):
        enrolled = await send(http, f"{place}/enrollments", clip, ignoreMinLength="true")
        assert enrolled.status_code == 201, enrolled.text
        answer = enrolled.json()
        assert answer["enrollmentsCount"] == count
        assert 0 < answer["audioSpeechLength"] <= answer["audioLength"]
        assert answer["enrollmentsLength"] >= answer["audioLength"]
    assert answer["enrollmentStatus"] == "Enrolled"
    assert answer["remainingEnrollmentsSpeechLength"] == 0
    spelled_twice = [name for name in answer if name.endswith("InSec")]
    assert len(spelled_twice) == 5
    assert all(answer[name] == answer[name.removesuffix("InSec")] for name in spelled_twice)
    same = (await send(http, f"{place}:verify", clips("slt", "verify")[0])).json()
    other = (await send(http, f"{place}:verify", clips("rms", "verify")[0])).json()
    assert (same["recognitionResult"], other["recognitionResult"]) == ("Accept", "Reject")
    assert 0 <= other["score"] < 0.5 <= same["score"] <= 1
    assert (await http.get(place)).json()["enrollmentsCount"] == 2
    reset = await http.post(f"{place}:reset")
    assert reset.status_code == 200
    assert (reset.json()["enrollmentsCount"], reset.json()["enrollmentStatus"]) == (0, "Enrolling")
    unready = await send(http, f"{place}:verify", clips("slt", "verify")[0])
    assert (unready.status_code, unready.json()["error"]["code"]) == (400, "InvalidRequest")
    deleted = await http.delete(place)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await http.get(place)).status_code == 404


async def test_identification_among_some(http: httpx.AsyncClient) -> None:
    ids = {name: await enroll(http, IDENTIFICATION, name) for name in ("slt", "rms", "awb")}
    path = f"{IDENTIFICATION}:identifySingleSpeaker"
    clip = clips("slt", "verify")[0]
    found = (await send(http, path, clip, profileIds=",".join(ids.values()))).json()
    assert found["identifiedProfile"]["profileId"] == ids["slt"]
    ranking = found["profilesRanking"]
    assert ranking[0] == found["identifiedProfile"]
    assert {each["profileId"] for each in ranking} == set(ids.values())
    scores = [each["score"] for each in ranking]
    assert scores == sorted(scores, reverse=True)
    without = (await send(http, path, clip, profileIds=f"{ids['rms']},{ids['awb']}")).json()
    assert without["identifiedProfile"] == {"profileId": NOBODY, "score": 0.0}
    assert ids["slt"] not in {each["profileId"] for each in without["profilesRanking"]}
    old = "/speaker/identification/v2.0/text-independent/profiles/identifySingleSpeaker"
    assert (await send(http, old, clip, profileIds=ids["slt"])).json() == {
        "identifiedProfile": found["identifiedProfile"],
        "profilesRanking": [found["identifiedProfile"]],
    }
    for profile in ids.values():
        assert (await http.get(f"{VERIFICATION}/{profile}")).status_code == 404
        assert (await http.delete(f"{IDENTIFICATION}/{profile}")).status_code == 204


async def test_version_2_has_the_same(http: httpx.AsyncClient) -> None:
    base = "/speaker/verification/v2.0/text-independent/profiles"
    profile = await enroll(http, base, "slt")
    answer = await send(http, f"{base}/{profile}/verify", clips("slt", "verify")[0])
    assert answer.json()["recognitionResult"] == "Accept"


async def test_a_speaker_who_was_enrolled_otherwise_is_a_profile(
    http: httpx.AsyncClient, secured: SaysoServer, keys: dict[str, str]
) -> None:
    with Client(secured.address, credential=keys["bank"]) as sayso:
        for clip in clips("slt", "enroll"):
            sayso.enroll("27-1182", clip, metadata={"line": "mobile"})
    answer = await send(http, f"{VERIFICATION}/27-1182:verify", clips("slt", "verify")[0])
    assert answer.json()["recognitionResult"] == "Accept"


async def test_profiles_are_listed_by_page(http: httpx.AsyncClient) -> None:
    made = {await create_profile(http) for _ in range(3)}
    answer = (await http.get(VERIFICATION, params={"maxpagesize": "2"})).json()
    seen = {each["profileId"] for each in answer["value"]}
    while link := answer.get("nextLink"):
        answer = (await http.get(link)).json()
        seen |= {each["profileId"] for each in answer["value"]}
    assert made <= seen


async def test_a_key_is_of_one_tenant_and_its_roles(
    http: httpx.AsyncClient, keys: dict[str, str]
) -> None:
    profile = await enroll(http, VERIFICATION, "slt")
    clip = clips("slt", "verify")[0]

    async def ask(key: str) -> httpx.Response:
        http.headers["Ocp-Apim-Subscription-Key"] = key
        return await send(http, f"{VERIFICATION}/{profile}:verify", clip)

    assert (await ask(keys["shop"])).status_code == 404
    assert (await ask("nonsense")).status_code == 401
    without_scores = (await ask(keys["plain"])).json()
    assert without_scores == {"recognitionResult": "Accept", "score": None}
    http.headers["Ocp-Apim-Subscription-Key"] = keys["verifier"]
    refused = await http.post(VERIFICATION, json={"locale": "en-us"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "Forbidden")
    del http.headers["Ocp-Apim-Subscription-Key"]
    assert (await http.get(VERIFICATION)).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/speaker-recognition/verification/text-independent/phrases/en-us"),
        ("POST", "/speaker-recognition/verification/text-dependent/profiles"),
        ("POST", "/speaker/verification/v2.0/text-dependent/profiles"),
        ("POST", f"{IDENTIFICATION}/x:verify"),
        ("POST", f"{VERIFICATION}:identifySingleSpeaker"),
        ("GET", "/speaker-recognition/diarization/text-independent/profiles"),
    ],
)
async def test_what_has_no_counterpart_says_so(
    http: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await http.request(method, path)
    assert answer.status_code == 501
    assert "no counterpart" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"[" * 4000, b"\xff", b'{"locale": 7}', b'{"locale": "english"}', b"{}"],
)
async def test_a_body_that_is_no_profile(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post(VERIFICATION, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidRequest")
    assert answer.headers["x-ms-error-code"] == "InvalidRequest"


async def test_audio_that_cannot_be(http: httpx.AsyncClient) -> None:
    profile = await create_profile(http)
    for path in (f"{VERIFICATION}/{profile}/enrollments", f"{VERIFICATION}/{profile}:verify"):
        statuses = {
            kind: (await http.post(path, content=audio)).status_code
            for kind, audio in {
                "empty": b"",
                "noise": b"RIFF" + bytes(1000),
                "huge": bytes(5 * 2**20 + 1),
            }.items()
        }
        assert statuses == {"empty": 400, "noise": 400, "huge": 413}
    many = {"profileIds": ",".join(map(str, range(51)))}
    path = f"{IDENTIFICATION}:identifySingleSpeaker"
    assert (await http.post(path, content=b"", params=many)).status_code == 400
    assert (await http.post(path, content=b"")).status_code == 400


async def test_a_key_that_is_none_sends_no_audio(gateway: RunningGateway) -> None:
    """A stranger is refused before the body is read."""
    host, port = gateway.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST {VERIFICATION}/x:verify HTTP/1.1\r\nHost: {host}\r\n"
        "Ocp-Apim-Subscription-Key: nonsense\r\nContent-Length: 5000000\r\n\r\n".encode()
    )
    async with asyncio.timeout(10.0):
        assert b" 401 " in await reader.readline()
    writer.close()


async def test_a_body_that_does_not_come(
    gateway: RunningGateway, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_READ_S", 0.3)
    host, port = gateway.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST {VERIFICATION} HTTP/1.1\r\nHost: {host}\r\n"
        f"Ocp-Apim-Subscription-Key: {keys['bank']}\r\nContent-Length: 20\r\n\r\n{{".encode()
    )
    async with asyncio.timeout(10.0):
        assert b" 408 " in await reader.readline()
    writer.close()


async def test_more_requests_than_are_taken_are_told_to_come_back() -> None:
    slots = bodies.Slots(1)
    async with slots.take():
        with pytest.raises(bodies.BodyRefused, match="try again") as refused:
            async with slots.take():
                pass
    assert refused.value.status == 429
    async with slots.take():
        pass


async def test_it_is_off_by_default(secured: SaysoServer) -> None:
    async with (
        run_gateway(secured, pcm=True) as running,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        for path in (VERIFICATION, "/"):
            answer: Any = await http.post(f"http://{running.address}{path}")
            assert answer.status_code == 404
