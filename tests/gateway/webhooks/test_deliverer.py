"""Deliveries to a real HTTP server, by a clock of the test."""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from gateway.webhooks.deliverer import Deliverer
from gateway.webhooks.endpoints import Endpoint, read_webhooks
from gateway.webhooks.outbox import Delivery, NewEvent, Outbox, OutboxThread, open_outbox
from gateway.webhooks.sender import open_sender
from tests.support.webhook_receiver import Receiver, receive, write_webhooks


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receive() as opened:
        yield opened


class Delivering:
    """A deliverer that runs, its outbox, and its clock."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.now = 1000.0
        self.wake: Callable[[], None] = lambda: None

    def add(self, *numbers: int, kind: str = "call.ended", call: str = "call") -> None:
        for number in numbers:
            event = NewEvent(f"event-{number}", kind, call, b'{"n": %d}' % number)
            self.outbox.add("token", event, ["desk"], now=self.now)
        self.wake()

    def find_due(self) -> list[Delivery]:
        return self.outbox.find_due("desk", now=self.now, limit=1)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.wake()


@contextlib.asynccontextmanager
async def deliver(folder: Path, endpoint: Endpoint) -> AsyncIterator[Delivering]:
    with open_outbox(folder / "state.db") as outbox, OutboxThread(outbox) as thread:
        delivering = Delivering(outbox)
        async with open_sender(endpoint, time.time) as sender:
            deliverer = Deliverer(
                endpoint,
                thread,
                sender,
                clock=lambda: delivering.now,
                random_source=random.Random(1),
            )
            delivering.wake = deliverer.wake
            running = asyncio.create_task(deliverer.run())
            try:
                yield delivering
            finally:
                deliverer.stop()
                await running


def read_desk(folder: Path, url: str, more: str = "") -> Endpoint:
    return read_webhooks(write_webhooks(folder, url, more=more)).endpoints["desk"]


async def wait_until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def test_retries_follow_the_schedule_until_it_is_taken(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.replies = [(500, {}), (302, {"location": "/elsewhere"}), (404, {})]
    async with deliver(tmp_path, read_desk(tmp_path, receiver.url)) as delivering:
        delivering.add(1)
        for made, delay_s in enumerate((5, 300, 1800), start=1):
            await wait_until(lambda made=made: len(receiver.received) == made)  # type: ignore[misc]
            await wait_until(lambda: not delivering.find_due())
            delivering.pass_time(delay_s - 1)
            await asyncio.sleep(0.2)
            assert len(receiver.received) == made, "tried too early"
            delivering.pass_time(1 + 0.2 * delay_s)
        await wait_until(lambda: delivering.outbox.count("desk").pending == 0)
    assert [each.status for each in receiver.received] == [500, 302, 404, 204]
    ids = {each.headers["webhook-id"] for each in receiver.received}
    assert ids == {"event-1"}
    assert len({each.body for each in receiver.received}) == 1


async def test_after_the_last_attempt_it_is_a_failure_that_can_be_replayed(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.replies = [(500, {})] * 10
    async with deliver(tmp_path, read_desk(tmp_path, receiver.url)) as delivering:
        delivering.add(1)
        for made in range(1, 11):
            await wait_until(lambda made=made: len(receiver.received) == made)  # type: ignore[misc]
            await wait_until(lambda: not delivering.find_due())
            delivering.pass_time(30 * 3600)
        [failure] = delivering.outbox.list_failures()
        assert (failure.attempts, failure.error) == (10, "given up; last: HTTP 500")
        delivering.outbox.replay("desk", [], now=delivering.now)
        await wait_until(lambda: len(receiver.taken) == 1)  # noticed without being woken


async def test_gone_disables_it_until_it_is_enabled(tmp_path: Path, receiver: Receiver) -> None:
    receiver.replies = [(410, {})]
    async with deliver(tmp_path, read_desk(tmp_path, receiver.url)) as delivering:
        delivering.add(1)
        await wait_until(lambda: delivering.outbox.is_gone("desk"))
        delivering.add(2)
        await asyncio.sleep(0.2)
        assert len(receiver.received) == 1
        [failure] = delivering.outbox.list_failures()
        assert failure.error == "the endpoint is gone"
        delivering.outbox.enable("desk")
        delivering.add(3)
        await wait_until(lambda: len(receiver.taken) == 1)
    assert receiver.taken[0].headers["webhook-id"] == "event-3"


async def test_retry_after_holds_all_of_the_endpoint(tmp_path: Path, receiver: Receiver) -> None:
    receiver.replies = [(429, {"retry-after": "600"})]
    async with deliver(tmp_path, read_desk(tmp_path, receiver.url)) as delivering:
        delivering.add(1)
        await wait_until(lambda: not delivering.find_due())
        delivering.add(2)
        delivering.pass_time(599)
        await asyncio.sleep(0.2)
        assert len(receiver.received) == 1
        delivering.pass_time(2)
        await wait_until(lambda: len(receiver.taken) == 2)


async def test_an_endpoint_that_hangs_holds_up_no_other_delivery(tmp_path: Path) -> None:
    """It accepts and never answers: each attempt ends by the timeout, several at once."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        desk = read_desk(tmp_path, url, more="timeout_s = 1")
        async with deliver(tmp_path, desk) as delivering:
            began = time.monotonic()
            delivering.add(*range(8))
            await wait_until(lambda: not delivering.find_due())
            assert time.monotonic() - began < 5
            [delivery, *_] = delivering.outbox.find_due("desk", now=1e9, limit=9)
            assert (delivery.attempts, delivery.error) == (1, "no answer within 1 s")


async def test_an_answer_that_never_ends_is_not_read(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, deliver(tmp_path, read_desk(tmp_path, url)) as delivering:
        began = time.monotonic()
        delivering.add(*range(20))
        await wait_until(lambda: delivering.outbox.count("desk").pending == 0)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_an_address_that_is_not_allowed_is_not_reached(
    tmp_path: Path, receiver: Receiver, host: str
) -> None:
    file = write_webhooks(tmp_path, f"http://{host}:{receiver.port}/")
    file.write_text(file.read_text().replace('allow = ["127.0.0.0/8"]', ""))
    async with deliver(tmp_path, read_webhooks(file).endpoints["desk"]) as delivering:
        delivering.add(1)
        await wait_until(lambda: not delivering.find_due())
        [delivery] = delivering.outbox.find_due("desk", now=1e9, limit=1)
    assert "is not a public address" in delivery.error
    assert receiver.received == []


async def test_a_name_that_leads_elsewhere_at_the_second_lookup_is_not_followed(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the address is checked that is connected to, at each connection."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *rest: object, **named: object) -> object:
        if host != "rebound.example.com":
            return real(host, port, *rest, **named)  # type: ignore[arg-type]
        asked.append(next(answers, "127.0.0.1"))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (asked[-1], port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = f"http://rebound.example.com:{receiver.port}/"
    file = write_webhooks(tmp_path, url, more="allow_http = true\ntimeout_s = 1")
    file.write_text(file.read_text().replace('allow = ["127.0.0.0/8"]', ""))
    async with deliver(tmp_path, read_webhooks(file).endpoints["desk"]) as delivering:
        delivering.add(1)
        await wait_until(lambda: not delivering.find_due())
        delivering.pass_time(6)
        await wait_until(lambda: not delivering.find_due())
        [delivery] = delivering.outbox.find_due("desk", now=1e9, limit=1)
    assert asked[1] == "127.0.0.1"
    assert "127.0.0.1 is not a public address" in delivery.error
    assert receiver.received == []
