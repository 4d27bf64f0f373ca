"""REST from the http annotations, against a real server that asks for keys."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml
from google.rpc import code_pb2

from gateway.rest.bindings import Bindings
from gateway.rest.statuses import HTTP_CODES
from gateway.rest.templates import parse_template
from gateway.rest.transcoder import MAX_BODY_BYTES
from gateway.server import RunningGateway
from tests.support import keys
from tests.support.gateways import run_gateway
from tests.support.sayso_server import ROOT, SaysoServer
from tests.support.voices import clips

OPENAPI = yaml.safe_load((ROOT / "protos/openapi.yaml").read_text())
FILE = {"encoding": "AUDIO_ENCODING_FILE"}


@dataclass(frozen=True)
class Guarded:
    """A server that asks for keys, with a key of each kind."""

    server: SaysoServer
    everything: str
    verify: str
    other_tenant: str


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    path = folder / "keys.toml"
    roles = ("verify", "enroll", "admin", "analyze", "watch")
    everything = keys.create(path, "bank", *roles)
    verify = keys.create(path, "bank", "verify")
    other = keys.create(path, "shop", *roles)
    store = f"sqlite:///{folder / 'sayso.db'}"
    with SaysoServer(store=store, keys=path) as server:
        yield Guarded(server, everything, verify, other)


@pytest.fixture
async def gateway(guarded: Guarded) -> AsyncIterator[RunningGateway]:
    async with run_gateway(guarded.server, rest=True) as running:
        yield running


@pytest.fixture
async def http(gateway: RunningGateway, guarded: Guarded) -> AsyncIterator[httpx.AsyncClient]:
    async with open_http(gateway, guarded.everything) as client:
        yield client


def open_http(gateway: RunningGateway, key: str | None) -> httpx.AsyncClient:
    shown = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(
        base_url=f"http://{gateway.address}", headers=shown, timeout=20.0, trust_env=False
    )


def read_file(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


async def enroll(http: httpx.AsyncClient, speaker: str, voice: str) -> list[dict[str, Any]]:
    answers = []
    for path in clips(voice, "enroll"):
        body = {"config": {"audio_config": FILE}, "audio": read_file(path)}
        answer = await http.post(f"/v1/speakers/{speaker}:enroll", json=body)
        assert answer.status_code == 200, answer.text
        answers.append(answer.json())
    return answers


def test_every_path_of_the_openapi_document_has_a_binding() -> None:
    described = {(verb.upper(), path) for path, verbs in OPENAPI["paths"].items() for verb in verbs}
    assert {(each.verb, each.template.text) for each in Bindings()} == described


def test_every_grpc_code_has_an_http_code() -> None:
    assert HTTP_CODES.keys() == set(grpc.StatusCode)
    assert {code.value[0] for code in HTTP_CODES} == set(code_pb2.Code.values())


@pytest.mark.parametrize(
    ("template", "path", "fields"),
    [
        ("/v1/speakers/{speaker_id}", "/v1/speakers/27-1182", {"speaker_id": "27-1182"}),
        ("/v1/speakers/{speaker_id}", "/v1/speakers/a%2Fb%3Aexport", {"speaker_id": "a/b:export"}),
        ("/v1/speakers/{speaker_id}", "/v1/speakers/a/b", None),
        ("/v1/speakers/{speaker_id}", "/v1/speakers/", None),
        ("/v1/speakers/{speaker_id}:verify", "/v1/speakers/a:b:verify", {"speaker_id": "a:b"}),
        ("/v1/speakers/{speaker_id}:verify", "/v1/speakers/a", None),
        ("/v1/{name=groups/*}/members", "/v1/groups/x/members", {"name": "groups/x"}),
        ("/v1/{name=groups/**}", "/v1/groups/x/y", {"name": "groups/x/y"}),
        ("/v1/a.b/{c.d}", "/v1/axb/1", None),
    ],
)
def test_a_template(template: str, path: str, fields: dict[str, str] | None) -> None:
    assert parse_template(template).match(path) == fields


async def test_a_voice_is_enrolled_and_verified(http: httpx.AsyncClient) -> None:
    *_, enrolled = await enroll(http, "27-1182", "slt")
    assert enrolled["stored"]
    assert enrolled["speaker"]["state"] == "SPEAKER_STATE_ENROLLED"
    decisions = []
    for voice in ("slt", "rms"):
        path = clips(voice, "verify")[0]
        body = {"audio_config": FILE, "audio": read_file(path)}
        answer = await http.post("/v1/speakers/27-1182:verify", json=body)
        decisions.append(answer.json()["decision"])
    assert [made["outcome"] for made in decisions] == ["OUTCOME_ACCEPTED", "OUTCOME_REJECTED"]
    assert decisions[0]["llr"] > decisions[1]["llr"]
    assert decisions[0]["speech_needed_s"] == 0


async def test_an_answer_has_the_fields_that_are_described(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/server")
    described = OPENAPI["components"]["schemas"]["GetServerInfoResponse"]["properties"]
    assert answer.json().keys() == described.keys()
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]


async def test_query_parameters_and_a_body_that_is_a_field(http: httpx.AsyncClient) -> None:
    for name in ("q-1", "q-2", "q-3"):
        answer = await http.patch(
            f"/v1/speakers/{name}?update_mask=metadata,consent&allow_missing=true",
            json={"metadata": {"batch": name}, "consent": {"reference": "form 7"}},
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["speaker"]["consent"]["reference"] == "form 7"
    query: list[tuple[str, str | int | float | bool | None]]
    query = [("page_size", "2"), ("filter.states", "SPEAKER_STATE_PENDING")]
    query += [("filter.states", "SPEAKER_STATE_EXPIRED"), ("order_by", "speaker_id desc")]
    listed = (await http.get("/v1/speakers", params=query)).json()
    assert [each["speaker_id"] for each in listed["speakers"]] == ["q-3", "q-2"]
    rest = await http.get(
        "/v1/speakers", params=[*query, ("page_token", listed["next_page_token"])]
    )
    assert [each["speaker_id"] for each in rest.json()["speakers"]] == ["q-1"]


async def test_an_id_with_a_slash_and_a_colon(http: httpx.AsyncClient) -> None:
    path = "/v1/speakers/a%2Fb%3Aexport"
    await http.patch(f"{path}?update_mask=metadata&allow_missing=true", json={})
    answer = await http.get(path)
    assert answer.json()["speaker"]["speaker_id"] == "a/b:export"
    assert (await http.delete(path)).status_code == 200
    assert (await http.get(path)).status_code == 404


async def test_the_path_counts_more_than_the_body(http: httpx.AsyncClient) -> None:
    await http.post("/v1/groups", json={"name": "vip"})
    answer = await http.post(
        "/v1/groups/none:addMembers", json={"group_name": "vip", "speaker_ids": ["x"]}
    )
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("verb", "path", "body", "code", "says"),
    [
        ("GET", "/v1/speakers/nobody", None, 404, "SPEAKER_NOT_FOUND"),
        ("GET", "/v1/speakers?page_size=two", None, 400, "page_size"),
        ("GET", "/v1/speakers?size=2", None, 400, "size: there is no such field"),
        ("GET", "/v1/speakers?page_size=2&page_size=3", None, 400, "given twice"),
        ("GET", "/v1/speakers?filter.metadata=x", None, 400, "a map"),
        ("GET", "/v1/speakers?filter.states=HAPPY", None, 400, "HAPPY"),
        ("PATCH", "/v1/speakers/x?allow_missing=1&update_mask=metadata", "{}", 400, "true or"),
        ("POST", "/v1/speakers/x:unlock?speaker_id=y", "{}", 400, "no query parameter"),
        ("POST", "/v1/speakers/x:unlock", "{", 400, "UnlockSpeakerRequest"),
        ("POST", "/v1/speakers/x:unlock", '{"who": 1}', 400, "who"),
        ("POST", "/v1/speakers/x:unlock", "[" * 5000, 400, "JSON"),
        ("POST", "/v1/speakers/x:unlock", '{"speaker_id": "\\ud800"}', 400, ""),
        ("PUT", "/v1/speakers/x", "{}", 405, ""),
        ("POST", "/v1/speakers/x", "{}", 405, "DELETE, GET, PATCH"),
        ("GET", "/v1/voices", None, 404, "openapi.yaml"),
        ("GET", "/v1/speakers/%ff", None, 400, "UTF-8"),
        ("POST", "/v1/embeddings:embed", '{"audio": "%"}', 400, ""),
    ],
)
async def test_a_request_that_is_wrong(
    http: httpx.AsyncClient, verb: str, path: str, body: str | None, code: int, says: str
) -> None:
    answer = await http.request(
        verb, path, content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == code, answer.text
    assert says in answer.text


async def test_a_field_violation_is_a_detail(http: httpx.AsyncClient) -> None:
    for answer in (
        await http.get("/v1/speakers?size=2"),  # by the gateway
        await http.get("/v1/speakers?page_size=5000"),  # by the server
    ):
        status = answer.json()
        assert answer.status_code == 400
        assert status["code"] == 3
        details = {each["@type"].rpartition(".")[2]: each for each in status["details"]}
        assert details["BadRequest"]["fieldViolations"][0]["field"] in ("size", "page_size")


async def test_other_content_types_are_refused(http: httpx.AsyncClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await http.post(
            "/v1/speakers/x:unlock", content="{}", headers={"content-type": kind}
        )
        assert answer.status_code == 415


async def test_a_body_that_is_too_large(http: httpx.AsyncClient) -> None:
    def spend() -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(8):
                yield b" " * 2**20

        return chunks()

    answer = await http.post(
        "/v1/speakers/x:unlock", content=spend(), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
    assert str(MAX_BODY_BYTES) in answer.json()["message"]


async def test_a_deadline(http: httpx.AsyncClient) -> None:
    late = await http.get("/v1/migration", headers={"x-server-timeout": "0.000001"})
    assert late.status_code == 504
    assert late.json()["code"] == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    for wrong in ("0", "-1", "nan", "soon", "1e9"):
        answer = await http.get("/v1/server", headers={"x-server-timeout": wrong})
        assert answer.status_code == 400


async def test_credentials_are_the_callers_own(gateway: RunningGateway, guarded: Guarded) -> None:
    async with open_http(gateway, None) as nobody:
        answer = await nobody.get("/v1/server")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert (await nobody.get("/openapi.yaml")).text.startswith("#")
    async with open_http(gateway, "wrong") as wrong:
        assert (await wrong.get("/v1/server")).status_code == 401
    async with open_http(gateway, guarded.verify) as verify:
        assert (await verify.get("/v1/server")).status_code == 200
        answer = await verify.get("/v1/speakers")
        assert answer.status_code == 403
        assert "the role enroll" in answer.json()["message"]
    async with open_http(gateway, guarded.everything) as bank:
        await bank.patch("/v1/speakers/ours?update_mask=metadata&allow_missing=true", json={})
        assert (await bank.get("/v1/speakers/ours")).status_code == 200
    async with open_http(gateway, guarded.other_tenant) as shop:
        assert (await shop.get("/v1/speakers/ours")).status_code == 404


async def test_the_gateways_own_credential_is_not_lent(guarded: Guarded) -> None:
    async with (
        run_gateway(guarded.server, rest=True, credential=guarded.everything) as gateway,
        open_http(gateway, None) as nobody,
    ):
        assert (await nobody.get("/v1/server")).status_code == 401


async def test_a_server_that_is_away() -> None:
    async with run_gateway("127.0.0.1:1", rest=True) as gateway, open_http(gateway, "k") as http:
        answer = await http.get("/v1/server", headers={"x-server-timeout": "2"})
        assert answer.status_code in (503, 504)
        assert (await http.get("/v1/events:watch")).status_code == 503


async def read_events(http: httpx.AsyncClient, path: str, count: int) -> list[dict[str, Any]]:
    """The data of the first `count` events, with the id of each."""
    found: list[dict[str, Any]] = []
    last_id = ""
    async with http.stream("GET", path) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                last_id = line[4:]
            elif line.startswith("data: "):
                found.append({"id": last_id, **json.loads(line[6:])})
            if len(found) == count:
                return found
    raise AssertionError("the stream ended")


async def test_events_are_streamed_and_resumed(http: httpx.AsyncClient) -> None:
    watching = asyncio.create_task(read_events(http, "/v1/events:watch?from_oldest=true", 2))
    await enroll(http, "watched-1", "awb")
    body = {"audio_config": FILE, "audio": read_file(clips("awb", "verify")[0])}
    await http.post("/v1/speakers/watched-1:verify", json=body)
    async with asyncio.timeout(20):
        first, second = await watching
    types = "types=EVENT_TYPE_CALL_ENDED&speaker_id=watched-1"
    async with asyncio.timeout(20):
        [ended] = await read_events(http, f"/v1/events:watch?from_oldest=true&{types}", 1)
        [again] = await read_events(http, f"/v1/events:watch?resume_token={first['id']}", 1)
    assert again["event_id"] == second["event_id"]
    assert ended["decision"]["outcome"] == "OUTCOME_ACCEPTED"
    assert ended["decision"]["llr"] > 0


async def test_events_outlast_the_limit_on_handshakes(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.web._HANDSHAKE_S", 0.5)
    watching = asyncio.create_task(
        read_events(http, "/v1/events:watch?types=EVENT_TYPE_ENROLLMENT_COMPLETED", 1)
    )
    await asyncio.sleep(1.5)
    await enroll(http, "watched-2", "rms")
    async with asyncio.timeout(20):
        [event] = await watching
    assert event["speaker_id"] == "watched-2"


async def test_a_connection_that_goes_on_asks_in_time(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.web._HANDSHAKE_S", 0.5)
    host, _, port = gateway.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200" in await reader.readline()
    writer.write(b"GET /hea")  # and no more
    async with asyncio.timeout(3):
        rest = await reader.read()
    assert re.search(rb"ok\n$", rest)
    writer.close()


async def test_watching_needs_its_role(gateway: RunningGateway, guarded: Guarded) -> None:
    async with open_http(gateway, guarded.verify) as http:
        answer = await http.get("/v1/events:watch")
        assert answer.status_code == 403
        assert "the role watch" in answer.json()["message"]


async def test_watchers_give_up_their_places(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with http.stream("GET", "/v1/events:watch") as first:
        assert first.status_code == 200
    for _ in range(120):  # more than there are places
        async with http.stream("GET", "/v1/events:watch") as answer:
            assert answer.status_code == 200
