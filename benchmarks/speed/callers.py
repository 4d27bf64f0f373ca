"""Processes that hold calls with a server at the pace of the clock.

    processes -> channels -> calls -> a message every 20 ms or so, when its audio has been spoken
                                  <- partial results, each against the end of the audio it covers

Times are due times: a caller that is late counts against the server, and says how late it was.
"""

import asyncio
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from sayso.v1 import audio_pb2
from sayso.v1 import verification_pb2 as pb

MESSAGE_S = 0.02
RATE = 8000
CALLS_PER_CHANNEL = 25

_METHOD = "/sayso.v1.VerificationService/StreamingVerify"
_APART_BYTES = 7919 * 160  # by which the audio of two calls is apart
_AHEAD_S = 1.0
_LAST_WORDS_S = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """`calls` of `call_s` seconds each, started evenly over `starts_s` seconds.

    Partial results are measured while all of them talk."""

    address: str
    speaker_id: str
    audio: bytes
    calls: int
    call_s: float
    starts_s: float
    pace: float = 1.0  # times as fast as people talk
    message_s: float = MESSAGE_S

    def share(self, part: int, parts: int) -> list[int]:
        """List the numbers of the calls that one of `parts` processes holds."""
        return list(range(part, self.calls, parts))

    def sent(self, number: int) -> list[bytes]:
        """Cut the audio of a call into messages; each call starts at another point of the
        recording."""
        start = number * _APART_BYTES % len(self.audio)
        message_bytes = int(self.message_s * RATE)
        needed = int(self.call_s / self.message_s) * message_bytes
        repeated = (self.audio[start:] + self.audio[:start]) * math.ceil(needed / len(self.audio))
        return [repeated[at : at + message_bytes] for at in range(0, needed, message_bytes)]


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back from some calls: `latencies_s` (results,) from the end of the audio that a
    partial result covers to its arrival, `lags_s` (messages,) by which messages left late,
    `results` partial results in all, `silent` calls without one, `cores` that the callers used."""

    latencies_s: np.ndarray[Any, Any]
    lags_s: np.ndarray[Any, Any]
    speech_share: float
    results: int
    silent: int
    failures: tuple[str, ...]
    cores: float

    @classmethod
    def join(cls, parts: Sequence["Heard"]) -> "Heard":
        return cls(
            np.concatenate([part.latencies_s for part in parts]),
            np.concatenate([part.lags_s for part in parts]),
            float(np.mean([part.speech_share for part in parts])),
            sum(part.results for part in parts),
            sum(part.silent for part in parts),
            tuple(failure for part in parts for failure in part.failures),
            sum(part.cores for part in parts),
        )


@dataclass(slots=True)
class _Call:
    """What one call sent and heard, in seconds of the process's clock."""

    began_s: float
    lags_s: list[float]
    results: list[tuple[float, float, float]]  # arrived, audio covered, net speech
    failure: str | None = None


def hold_calls(load: Load, processes: int = 1) -> Heard:
    """Hold the calls in some processes, and return when all have ended."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        asked = [(load, part, processes) for part in range(processes)]
        return Heard.join(pool.starmap(_hold_part, asked))


def _hold_part(load: Load, part: int, parts: int) -> Heard:
    began_s, cpu_s = time.monotonic(), time.process_time()
    heard = asyncio.run(_all(load, load.share(part, parts)))
    cores = (time.process_time() - cpu_s) / (time.monotonic() - began_s)
    all_talk = max(call.began_s for call in heard), min(call.began_s for call in heard)
    since_s, until_s = all_talk[0], all_talk[1] + load.call_s
    partial = [
        (arrived_s - call.began_s - covered_s)
        for call in heard
        for arrived_s, covered_s, _ in call.results
        if since_s <= call.began_s + covered_s <= until_s
    ]
    shares = [speech / covered for call in heard for _, covered, speech in call.results[-1:]]
    return Heard(
        np.array(partial),
        np.concatenate([np.array(call.lags_s) for call in heard]),
        float(np.mean(shares)) if shares else 0.0,
        sum(len(call.results) for call in heard),
        sum(not call.results for call in heard),
        tuple(call.failure for call in heard if call.failure),
        cores,
    )


async def _all(load: Load, numbers: Sequence[int]) -> list[_Call]:
    first_s = asyncio.get_running_loop().time() + _AHEAD_S
    channels = [
        open_channel(load.address) for _ in range(math.ceil(len(numbers) / CALLS_PER_CHANNEL))
    ]
    try:
        talks = [
            _talk(
                channels[index % len(channels)],
                load,
                first_s + load.starts_s * number / load.calls,
                number,
            )
            for index, number in enumerate(numbers)
        ]
        return list(await asyncio.gather(*talks))
    finally:
        for each in channels:
            await each.close()


def open_channel(address: str) -> grpc.aio.Channel:
    """Open a channel with a connection of its own."""
    return grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))


def make_opening(speaker_id: str) -> bytes:
    """Serialize the first message of a call in mu-law."""
    audio = audio_pb2.AudioConfig(encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=RATE)
    config = pb.StreamingVerifyConfig(speaker_id=speaker_id, audio_config=audio)
    return pb.StreamingVerifyRequest(config=config).SerializeToString()


def dial(over: grpc.aio.Channel) -> Any:
    """Start a call over a channel; its messages are bytes that were serialized beforehand."""
    answer: Callable[[bytes], Any] = pb.StreamingVerifyResponse.FromString
    return over.stream_stream(_METHOD, None, answer)(timeout=None)


async def _talk(over: grpc.aio.Channel, load: Load, began_s: float, number: int) -> _Call:
    made = _Call(began_s, [], [])
    messages = [
        pb.StreamingVerifyRequest(audio=piece).SerializeToString() for piece in load.sent(number)
    ]
    loop = asyncio.get_running_loop()
    await asyncio.sleep(began_s - loop.time())
    call = dial(over)
    listening = asyncio.create_task(_listen(call, made))
    try:
        await call.write(make_opening(load.speaker_id))
        for index, message in enumerate(messages):
            due_s = began_s + (index + 1) * load.message_s / load.pace
            if (ahead_s := due_s - loop.time()) > 0:
                await asyncio.sleep(ahead_s)
            made.lags_s.append(loop.time() - due_s)
            await call.write(message)
        await call.done_writing()
        await asyncio.wait_for(listening, _LAST_WORDS_S)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError) as error:
        made.failure = made.failure or f"{type(error).__name__}: {error}"
        call.cancel()
    return made


async def _listen(call: Any, made: _Call) -> None:
    loop = asyncio.get_running_loop()
    try:
        async for response in call:
            if response.done:
                continue
            quality = response.decision.quality
            made.results.append((loop.time(), quality.audio_s, quality.net_speech_s))
    except grpc.aio.AioRpcError as error:
        made.failure = f"{error.code().name}: {error.details()}"
