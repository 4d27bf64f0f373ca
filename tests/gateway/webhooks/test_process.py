"""A real gateway beside a real server: what a receiver gets, and what the command line tells."""

import base64
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.json_format import ParseDict
from sayso import Client
from sayso.v1 import event_pb2
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.webhooks.signatures import make_key_pair, make_secret
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess
from tests.support.keys import create
from tests.support.sayso_server import ROOT, SaysoServer
from tests.support.voices import clips
from tests.support.webhook_receiver import Received, Receiver, receive, write_webhooks

_TRY = """
import {readFileSync} from "node:fs";
import {verify} from "./verify.mjs";
try {
  process.stdout.write(verify(readFileSync(0), JSON.parse(process.argv[2])).type);
} catch (error) {
  process.stdout.write(error.message);
}
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receive() as opened:
        yield opened


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(server: SaysoServer, folder: Path, **settings: str) -> GatewayProcess:
    return GatewayProcess(
        server.address, webhooks=folder / "webhooks.toml", state=folder / "state.db", **settings
    )


def follow(folder: Path) -> None:
    """Wait until the gateway keeps a token: what happens from now on is owed."""
    from gateway.webhooks.outbox import open_outbox  # noqa: PLC0415

    with open_outbox(folder / "state.db") as outbox:
        wait_until(lambda: outbox.get_token() is not None)


def ask(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", "gateway", "webhooks", *command],
        cwd=ROOT,
        env={
            **os.environ,
            "SAYSO_GATEWAY_WEBHOOKS": str(folder / "webhooks.toml"),
            "SAYSO_GATEWAY_STATE": str(folder / "state.db"),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def read_type(received: Received) -> str:
    return str(json.loads(received.body)["type"])


def verify_as(address: str, key: str, request_id: str) -> None:
    with Client(address, credential=key, request_ids=lambda: request_id) as sayso:
        sayso.verify("nobody", clips("slt", "verify")[0])


def test_events_arrive_signed_as_cloudevents(
    server: SaysoServer, tmp_path: Path, receiver: Receiver
) -> None:
    old, new = make_secret(), make_secret()
    private, public = make_key_pair()
    write_webhooks(tmp_path, receiver.url, old, new, private)
    with start(server, tmp_path) as gateway, server.client() as sayso:
        follow(tmp_path)
        decision = sayso.verify("slt", clips("slt", "verify")[0])
        wait_until(lambda: len(receiver.taken) >= 2)
        gateway.terminate()
    types = [read_type(each) for each in receiver.taken]
    assert sorted(types) == ["dev.sayso.call.ended", "dev.sayso.decision.reached"]
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
    for received in receiver.taken:
        headers = received.headers
        for secret in (old, new):
            Webhook(secret).verify(received.body, headers)
        *_, signature = headers["webhook-signature"].split()
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + received.body
        key.verify(base64.b64decode(signature.removeprefix("v1a,")), signed)

        event = from_http_event(HTTPMessage(headers, received.body))
        assert headers["content-type"] == "application/cloudevents+json"
        assert event.get_specversion() == "1.0"
        assert event.get_id() == headers["webhook-id"]
        assert event.get_source() == "/sayso"
        assert event.get_subject() == "slt"
        assert event.get_time() is not None
        data = event.get_data()
        assert isinstance(data, dict)
        told = ParseDict(data, event_pb2.Event())
        assert told.event_id == event.get_id()
        assert told.decision.decision_id == decision.decision_id
        assert told.create_time.ToDatetime() == event.get_time().replace(tzinfo=None)


def test_only_chosen_types_are_sent_and_missed_ones_come_later(
    server: SaysoServer, tmp_path: Path, receiver: Receiver
) -> None:
    write_webhooks(tmp_path, receiver.url, more='events = ["call.ended"]')
    with server.client() as sayso:
        with start(server, tmp_path):
            follow(tmp_path)
        missed = sayso.verify("slt", clips("slt", "verify")[0])
        with start(server, tmp_path):
            wait_until(lambda: len(receiver.taken) == 1)
    [received] = receiver.taken
    assert read_type(received) == "dev.sayso.call.ended"
    data = json.loads(received.body)["data"]
    assert data["decision"]["decisionId"] == missed.decision_id


def test_the_file_is_read_again_when_it_changes(
    server: SaysoServer, tmp_path: Path, receiver: Receiver
) -> None:
    old, new = make_secret(), make_secret()
    file = write_webhooks(tmp_path, receiver.url, old, more='events = ["call.ended"]')
    right = file.read_text()
    with start(server, tmp_path) as gateway, server.client() as sayso, receive() as other:
        follow(tmp_path)
        file.write_text("endpoints = 7")
        time.sleep(1.5)
        sayso.verify("slt", clips("slt", "verify")[0])  # as before
        wait_until(lambda: len(receiver.taken) == 1)
        Webhook(old).verify(receiver.taken[0].body, receiver.taken[0].headers)

        file.write_text(right)
        write_webhooks(tmp_path, other.url, new, more='events = ["call.ended"]')
        wait_until(lambda: moved(sayso, other))
        Webhook(new).verify(other.taken[0].body, other.taken[0].headers)

        secrets, rotated = tmp_path / "desk.secrets", make_secret()  # the file itself unchanged
        secrets.write_text(rotated)
        wait_until(lambda: moved(sayso, other) and signs(other, rotated))
        log = gateway.terminate()
    assert log.count("what was read before stays in use") == 1
    posted = [*receiver.taken, *other.taken]
    assert len({each.headers["webhook-id"] for each in posted}) == len(posted)


def moved(sayso: Client, receiver: Receiver) -> bool:
    """Whether a call that ends now is posted to this receiver."""
    before = len(receiver.taken)
    sayso.verify("slt", clips("slt", "verify")[0])
    deadline = time.monotonic() + 1
    while len(receiver.taken) == before and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(receiver.taken) > before


def signs(receiver: Receiver, secret: str) -> bool:
    last = receiver.taken[-1]
    try:
        Webhook(secret).verify(last.body, last.headers)
    except WebhookVerificationError:
        return False
    return True


def test_a_refused_event_is_sent_again_after_five_seconds(
    server: SaysoServer, tmp_path: Path, receiver: Receiver
) -> None:
    write_webhooks(tmp_path, receiver.url, more='events = ["call.ended"]')
    receiver.replies = [(500, {})]
    with start(server, tmp_path) as gateway, server.client() as sayso:
        follow(tmp_path)
        sayso.verify("slt", clips("slt", "verify")[0])
        wait_until(lambda: len(receiver.taken) == 1)
        log = gateway.terminate()
    first, second = receiver.received
    waited_s = int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"])
    assert 5 <= waited_s <= 8
    assert first.body == second.body
    assert "HTTP 500; will be tried again" in log


def test_the_key_needs_the_role_watch_and_tells_its_tenant_alone(
    tmp_path: Path, receiver: Receiver
) -> None:
    keys = tmp_path / "keys.json"
    bank = create(keys, "bank", "verify", "watch")
    shop = create(keys, "shop", "verify")
    write_webhooks(tmp_path, receiver.url)
    with SaysoServer(store=f"sqlite:///{tmp_path / 'sayso.db'}", keys=keys) as secured:
        with start(secured, tmp_path, credential=shop) as gateway:
            time.sleep(1.0)
            log = gateway.terminate()
        assert "webhooks: events cannot be followed" in log
        assert "watch" in log
        with start(secured, tmp_path, credential=bank):
            follow(tmp_path)
            for key, request_id in ((shop, "of-shop"), (bank, "of-bank")):
                verify_as(secured.address, key, request_id)
            wait_until(lambda: len(receiver.taken) == 1)
    [received] = receiver.taken
    assert json.loads(received.body)["data"]["requestId"] == "of-bank"


def test_an_endpoint_that_hangs_does_not_keep_the_gateway_from_stopping(
    server: SaysoServer, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        write_webhooks(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        with start(server, tmp_path) as gateway, server.client() as sayso:
            follow(tmp_path)
            sayso.verify("nobody", clips("slt", "verify")[0])
            connection, _ = silent.accept()
            with connection:
                began = time.monotonic()
                gateway.terminate()
                assert time.monotonic() - began < 15
    assert json.loads(ask(tmp_path, "list", "--json").stdout)["pending"] == 1


def test_a_server_that_comes_later_is_followed(tmp_path: Path, receiver: Receiver) -> None:
    write_webhooks(tmp_path, receiver.url)
    store = f"sqlite:///{tmp_path / 'sayso.db'}"
    with SaysoServer(store=store) as first:
        address = first.address
    with GatewayProcess(
        address, webhooks=tmp_path / "webhooks.toml", state=tmp_path / "state.db"
    ) as gateway:
        with SaysoServer(store=store, listen=address) as second, second.client() as sayso:
            follow(tmp_path)
            sayso.verify("nobody", clips("slt", "verify")[0])
            wait_until(lambda: len(receiver.taken) == 1)
        assert "webhooks: events cannot be followed" in gateway.terminate()


def test_the_command_line_lists_failures_and_replays_them(
    server: SaysoServer, tmp_path: Path, receiver: Receiver
) -> None:
    write_webhooks(tmp_path, receiver.url, more='events = ["call.ended"]')
    receiver.replies = [(410, {})]
    with start(server, tmp_path), server.client() as sayso:
        follow(tmp_path)
        sayso.verify("slt", clips("slt", "verify")[0])
        wait_until(lambda: len(receiver.received) == 1)
        wait_until(lambda: json.loads(ask(tmp_path, "list", "--json").stdout)["state"] == "gone")
        [line] = ask(tmp_path, "failures", "--json").stdout.splitlines()
        failure = json.loads(line)
        assert failure["error"] == "the endpoint is gone"
        assert failure["event_id"] == receiver.received[0].headers["webhook-id"]
        assert ask(tmp_path, "enable", "desk").stdout == "desk is on again\n"
        replayed = ask(tmp_path, "replay", failure["event_id"])
        assert replayed.stdout == "1 deliveries will be tried again\n"
        wait_until(lambda: len(receiver.taken) == 1)
    listed = ask(tmp_path, "list").stdout
    assert listed == f"desk  {receiver.url}  on, 0 pending, 0 failed\n"


def test_the_command_line_tests_an_endpoint(tmp_path: Path, receiver: Receiver) -> None:
    secret = make_secret()
    write_webhooks(tmp_path, receiver.url, secret)
    assert ask(tmp_path, "test", "desk").stdout == f"{receiver.url}: HTTP 204\n"
    [received] = receiver.taken
    Webhook(secret).verify(received.body, received.headers)
    assert read_type(received) == "dev.sayso.test"
    receiver.replies = [(500, {})]
    assert ask(tmp_path, "test", "desk").returncode == 1
    unknown = ask(tmp_path, "test", "dusk")
    assert (unknown.returncode, unknown.stderr) == (2, "error: 'dusk' is none of desk\n")


@pytest.mark.parametrize("name", ["localhost", "elsewhere.example.com"])
def test_a_certificate_must_be_of_the_name_in_the_url(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue(name, [x509.DNSName(name)])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with receive(context) as receiver:
        url = f"https://localhost:{receiver.port}/"
        write_webhooks(tmp_path, url, more="timeout_s = 5")
        untrusted = ask(tmp_path, "test", "desk")
        trusted = ask(tmp_path, "test", "desk", SSL_CERT_FILE=str(authority.certificate))
    assert untrusted.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in untrusted.stdout
    assert len(receiver.taken) == (1 if name == "localhost" else 0)
    assert trusted.returncode == (0 if name == "localhost" else 1)


def test_the_node_program_of_the_page_verifies(tmp_path: Path, receiver: Receiver) -> None:
    page = (ROOT / "docs/integrate/webhooks.md").read_text()
    [program] = re.findall(r"^```js\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "verify.mjs").write_text(program)
    (tmp_path / "try.mjs").write_text(_TRY)
    secret, other = make_secret(), make_secret()
    write_webhooks(tmp_path, receiver.url, other, secret)
    ask(tmp_path, "test", "desk")
    [received] = receiver.taken

    def verify(secret: str, body: bytes) -> str:
        return subprocess.run(
            ["node", "try.mjs", json.dumps(received.headers)],
            cwd=tmp_path,
            env={**os.environ, "WEBHOOK_SECRET": secret},
            input=body,
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout.decode()

    assert verify(secret, received.body) == "dev.sayso.test"
    assert verify(other, received.body) == "dev.sayso.test"
    assert verify(secret, received.body + b" ") == "no signature of ours"
    assert verify(make_secret(), received.body) == "no signature of ours"
    received.headers["webhook-timestamp"] = str(int(time.time()) - 301)
    assert verify(secret, received.body) == "too old or too new"


def test_the_command_line_makes_secrets(tmp_path: Path, receiver: Receiver) -> None:
    made = ask(tmp_path, "new-secret").stdout.strip()
    private, public = ask(tmp_path, "new-secret", "--ed25519").stdout.split()
    write_webhooks(tmp_path, receiver.url, made, private)
    assert ask(tmp_path, "test", "desk").returncode == 0
    Webhook(made).verify(receiver.taken[0].body, receiver.taken[0].headers)
    assert public.startswith("whpk_")


def test_webhooks_need_a_file_for_what_waits(tmp_path: Path, receiver: Receiver) -> None:
    write_webhooks(tmp_path, receiver.url)
    environment = {**os.environ, "SAYSO_GATEWAY_WEBHOOKS": str(tmp_path / "webhooks.toml")}
    ended = subprocess.run(
        [sys.executable, "-m", "service", "gateway"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "SAYSO_GATEWAY_STATE: name the file" in ended.stderr
