"""Calls: what waits is bounded, a slow one stalls nobody, and the last decision is waited for."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

import pytest
from sayso import AnnouncedCall, Decision, NotFound, RawAudio, Unavailable

from gateway.buffer import AudioBuffer
from gateway.calls import Calls, CallStart
from gateway.clients import Clients
from gateway.errors import CallRefused
from gateway.settings import CallLimits

MULAW = RawAudio("MULAW", 8000)
DECISION = Decision("ACCEPTED", "", (), None, None, None, None, "", 3.0, None, 0.0, "model")
SHORT = CallLimits(max_calls=2, buffer_s=1.0, stall_s=0.1, conclude_s=0.2, max_call_s=10.0)


class ScriptedClient:
    """Stands in for the client: of a speaker `slow` it takes no audio."""

    def __init__(self) -> None:
        self.heard = 0
        self.closed = False
        self.policy: str | None = None

    async def take_call(self, call_id: str) -> AnnouncedCall:
        if call_id == "away":
            raise Unavailable("the store is away")
        if call_id != "announced":
            raise NotFound("no such call")
        return AnnouncedCall(call_id, ("announced",), "payments", None)

    async def verify_stream(
        self, speaker_ids: tuple[str, ...], chunks: AsyncIterable[bytes], **options: Any
    ) -> AsyncGenerator[Decision, None]:
        self.policy = options["policy"]
        [speaker_id] = speaker_ids
        if speaker_id == "slow":
            await asyncio.sleep(3600.0)
        if speaker_id == "broken":
            raise Unavailable("the server is away")
        async for chunk in chunks:
            self.heard += len(chunk)
        yield DECISION

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def client() -> ScriptedClient:
    return ScriptedClient()


@pytest.fixture
def calls(client: ScriptedClient) -> Calls:
    return Calls(Clients(lambda credential: client), SHORT, policy="greeting")  # type: ignore[arg-type,return-value]


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "gateway")
    return caplog


async def ignore(decision: Decision) -> None:
    pass


async def test_all_audio_is_heard_before_the_call_is_left(
    calls: Calls, client: ScriptedClient
) -> None:
    answers: list[Decision] = []

    async def answer(decision: Decision) -> None:
        answers.append(decision)

    async with calls.open(CallStart("1", MULAW, speaker_id="alice"), answer) as call:
        for _ in range(100):
            await call.hear(b"\xff" * 160)
    assert (client.heard, answers, client.policy) == (16_000, [DECISION], "greeting")
    assert client.closed


async def test_an_announced_call_brings_its_policy(calls: Calls, client: ScriptedClient) -> None:
    async with calls.open(CallStart("announced", MULAW, speaker_id="alice"), ignore):
        pass
    assert client.policy == "payments"


async def test_a_slow_call_is_given_up_and_stalls_nobody(
    calls: Calls, client: ScriptedClient, logged: pytest.LogCaptureFixture
) -> None:
    async def send(speaker: str) -> float:
        began = asyncio.get_running_loop().time()
        async with calls.open(CallStart(speaker, MULAW, speaker_id=speaker), ignore) as call:
            for _ in range(400):
                await call.hear(b"\xff" * 160)
                assert len(call._buffer._audio) <= 8000 + 160, "a second may wait"
                await asyncio.sleep(0)
        return asyncio.get_running_loop().time() - began

    slow_s, quick_s = await asyncio.gather(send("slow"), send("quick"))
    assert client.heard == 400 * 160
    assert quick_s < 0.1
    assert 0.1 <= slow_s < 1.0
    assert "call slow: the server takes no audio; given up" in logged.text


async def test_a_last_decision_is_not_waited_for_for_ever(
    calls: Calls, logged: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(2.0):
        async with calls.open(CallStart("1", MULAW, speaker_id="slow"), ignore):
            pass
    assert "did not conclude in time" in logged.text


async def test_an_error_of_the_server_ends_the_verification_alone(
    calls: Calls, logged: pytest.LogCaptureFixture
) -> None:
    async with calls.open(CallStart("1", MULAW, speaker_id="broken"), ignore) as call:
        for _ in range(400):
            await call.hear(b"\xff" * 160)
        assert call.done
    assert "not verified: the server is away" in logged.text


async def test_audio_beyond_the_longest_call_is_dropped(
    calls: Calls, client: ScriptedClient
) -> None:
    async with calls.open(CallStart("1", MULAW, speaker_id="alice"), ignore) as call:
        for _ in range(600):
            await call.hear(b"\xff" * 160)
            await asyncio.sleep(0)
    assert client.heard <= 80_000


async def test_more_calls_than_the_limit_are_refused(calls: Calls) -> None:
    start = CallStart("1", MULAW, speaker_id="alice")
    async with calls.open(start, ignore), calls.open(start, ignore):
        assert len(calls) == 2
        with pytest.raises(CallRefused, match="full"):
            async with calls.open(start, ignore):
                pass
    assert len(calls) == 0


@pytest.mark.parametrize(
    ("call_id", "speaker_id", "announced", "says"),
    [
        ("1", "", False, "claims nobody"),
        ("1", "alice", True, "was not announced"),
        ("away", "alice", False, "the store is away"),
    ],
)
async def test_calls_of_nobody_are_refused(
    calls: Calls, call_id: str, speaker_id: str, announced: bool, says: str
) -> None:
    with pytest.raises(CallRefused, match=says):
        async with calls.open(
            CallStart(call_id, MULAW, speaker_id=speaker_id), ignore, announced=announced
        ):
            pass
    assert len(calls) == 0


async def test_a_drain_waits_for_calls_and_takes_no_more(calls: Calls) -> None:
    start = CallStart("1", MULAW, speaker_id="alice")
    async with calls.open(start, ignore):
        draining = asyncio.create_task(calls.drain(5.0))
        await asyncio.sleep(0.01)
        assert not draining.done()
        with pytest.raises(CallRefused):
            async with calls.open(start, ignore):
                pass
    await asyncio.wait_for(draining, 0.1)


async def test_a_drain_ends_in_time(calls: Calls) -> None:
    async with calls.open(CallStart("1", MULAW, speaker_id="alice"), ignore):
        await asyncio.wait_for(calls.drain(0.05), 1.0)


@pytest.mark.parametrize("name", ["x" * 129, "a\nb", "\0"])
def test_an_id_that_no_server_takes_is_refused(name: str) -> None:
    with pytest.raises(CallRefused):
        CallStart(name, MULAW)
    with pytest.raises(CallRefused):
        CallStart("1", MULAW, speaker_id=name)


async def test_frames_are_joined() -> None:
    buffer = AudioBuffer(message_bytes=800, max_bytes=80_000)
    read: list[int] = []

    async def take() -> None:
        async for audio in buffer:
            read.append(len(audio))

    taking = asyncio.create_task(take())
    for _ in range(12):
        await buffer.put(b"\xff" * 160)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    buffer.end()
    await taking
    assert read == [160, 800, 800, 160]


async def test_a_client_is_shared_by_the_calls_of_its_credential() -> None:
    opened: list[str | None] = []
    made: list[ScriptedClient] = []

    def open_client(credential: str | None) -> ScriptedClient:
        opened.append(credential)
        made.append(ScriptedClient())
        return made[-1]

    clients = Clients(open_client)  # type: ignore[arg-type]
    async with clients.use("a") as first, clients.use("b"):
        async with clients.use("a") as second:
            assert first is second
        assert not made[0].closed
    assert opened == ["a", "b"]
    assert all(client.closed for client in made)
