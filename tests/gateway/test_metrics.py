"""What Prometheus reads of a real gateway."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sayso import SettingsError
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway import metrics
from gateway.connectors.dialects import InOrder
from gateway.connectors.streams import Media
from gateway.metrics import serve_metrics
from gateway.server import RunningGateway
from tests.support.gateways import run_gateway
from tests.support.sayso_server import SaysoServer
from tests.support.twilio_calls import (
    ACCOUNT_KEY,
    PUBLIC_URL,
    make_call,
    make_start,
    send_call,
    sign,
)
from tests.support.webhook_receiver import receive, write_webhooks

Samples = Mapping[tuple[str, frozenset[str]], float]


async def scrape(gateway: RunningGateway) -> Samples:
    """Each sample by its name and the values of its labels."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{gateway.metrics}/metrics", timeout=10.0) as answer:
            return str(answer.read().decode())

    text = await asyncio.to_thread(read)
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def find(samples: Samples, name: str, *labels: str) -> float:
    return samples.get((f"sayso_gateway_{name}", frozenset(labels)), 0.0)


@pytest.fixture
async def gateway(server: SaysoServer, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    tokens = tmp_path / "twilio"
    tokens.touch(mode=0o600)
    tokens.write_text(ACCOUNT_KEY)
    async with run_gateway(
        server,
        twilio_auth_tokens=tokens,
        public_url=PUBLIC_URL,
        rest=True,
        metrics_listen="127.0.0.1:0",
    ) as running:
        yield running


async def test_calls_are_counted_by_connector_and_ending(
    gateway: RunningGateway, caller: bytes
) -> None:
    before = await scrape(gateway)
    url = f"ws://{gateway.address}/twilio"
    async with connect(url, additional_headers=sign(), proxy=None) as socket:
        await socket.send(json.dumps(make_start("CA-open", speaker_id="slt")))
        while find(await scrape(gateway), "open_calls", "twilio") != 1.0:
            await asyncio.sleep(0.02)
        messages = make_call(make_start("CA-open"), caller)
        next(messages), next(messages)
        await send_call(socket, messages)
        await socket.wait_closed()
    after = await scrape(gateway)
    assert find(after, "open_calls", "twilio") == 0.0
    count = ("calls_total", "twilio", "ACCEPTED")
    assert find(after, *count) == find(before, *count) + 1


async def test_refusals_are_counted_by_reason(gateway: RunningGateway) -> None:
    before = await scrape(gateway)
    url = f"ws://{gateway.address}/twilio"
    with pytest.raises(InvalidStatus):
        async with connect(url, proxy=None):
            pass
    async with connect(url, additional_headers=sign(), proxy=None) as socket:
        await socket.send(json.dumps(make_start("CA-nobody")))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    after = await scrape(gateway)
    for reason in ("credential", "unclaimed"):
        count = ("refused_calls_total", "twilio", reason)
        assert find(after, *count) == find(before, *count) + 1, reason


async def test_requests_are_timed(gateway: RunningGateway) -> None:
    before = await scrape(gateway)
    async with httpx.AsyncClient(base_url=f"http://{gateway.address}") as client:
        assert (await client.get("/v1/speakers/slt")).status_code == 200
        assert (await client.get("/v1/nothing")).status_code == 404
    after = await scrape(gateway)
    for labels in (("GetSpeaker", "200"), ("none", "404")):
        count = ("request_seconds_count", *labels)
        assert find(after, *count) == find(before, *count) + 1


async def test_webhooks_are_counted(server: SaysoServer, tmp_path: Path, caller: bytes) -> None:
    with receive() as receiver:
        receiver.replies = [(500, {})]
        webhooks = write_webhooks(tmp_path, receiver.url)
        async with run_gateway(
            server,
            webhooks=webhooks,
            state=tmp_path / "state.db",
            pcm=True,
            metrics_listen="127.0.0.1:0",
        ) as gateway:
            before = await scrape(gateway)
            await asyncio.sleep(1.0)  # events are followed from now on
            await asyncio.to_thread(enroll_and_forget, server)
            async with asyncio.timeout(30):
                while not receiver.taken:
                    await asyncio.sleep(0.05)
            after = before
            async with asyncio.timeout(10):
                while find(after, "webhook_lag_seconds_count", "desk") == 0:
                    after = await scrape(gateway)
    for result in ("postponed", "delivered"):
        count = ("webhook_attempts_total", "desk", result)
        assert find(after, *count) > find(before, *count), result


def enroll_and_forget(server: SaysoServer) -> None:
    from tests.support.voices import clips  # noqa: PLC0415

    with server.client() as sayso:
        for path in clips("rms", "enroll"):
            sayso.enroll("counted", path)
        sayso.speakers.delete("counted")


def test_lost_and_reordered_frames_are_counted() -> None:
    token = metrics.CONNECTOR.set("telnyx-of-this-test")
    try:
        order = InOrder()
        for chunk in (1, 3, 2, *range(5, 18)):  # 4 never comes
            order.add(Media(b"", chunk))
    finally:
        metrics.CONNECTOR.reset(token)
    labels = {"connector": "telnyx-of-this-test"}
    read = metrics.REGISTRY.get_sample_value
    assert read("sayso_gateway_lost_frames_total", labels) == 1
    assert read("sayso_gateway_reordered_frames_total", labels) == 1


def test_an_address_that_is_taken_is_named() -> None:
    with serve_metrics("127.0.0.1:0") as first:
        assert first is not None
        with pytest.raises(SettingsError, match="METRICS_LISTEN"), serve_metrics(first):
            pass
