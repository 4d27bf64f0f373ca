"""Measure what the gateway adds to a call: processor time and latency.

    python -m benchmarks.speed.gateway [--calls 12] [--seconds 15] [--soak 200]

Writes benchmarks/results/gateway.json. The same calls are held in turn with the server itself and
through `sayso gateway`, at the pace of the clock, as Twilio's (JSON and base64, the dearest form),
for processor time. For latency half of them are held with the server and half, at the same time, as
samples over a WebSocket, which is told of every partial result. None is decided before its end, so
that server and gateway hear all of it. The soak holds many calls as Twilio does, decided as early
as they can be.
"""

import argparse
import asyncio
import json
import multiprocessing
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from benchmarks.figures import Figure, above, below, figure, write
from benchmarks.processes import processor_s, resident_mb
from benchmarks.speed.callers import MESSAGE_S, Heard, Load, hold_calls
from tests.support.call_audio import read_mulaw
from tests.support.gateway_process import GatewayProcess
from tests.support.sayso_server import SaysoServer
from tests.support.twilio_calls import ACCOUNT_KEY, PUBLIC_URL, make_call, make_start, sign
from tests.support.voices import clips

VOICE = "slt"
REPEATS = 3
_NEVER = {
    "sequential_false_match_rate": 1e-12,
    "sequential_false_non_match_rate": 1e-12,
    "sequential_max_speech_s": 3600,
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds of each process for a second of a call."""

    server: float
    gateway: float


@dataclass(frozen=True, slots=True)
class Running:
    server: SaysoServer
    gateway: GatewayProcess

    def measure(self, load: Load, hold: Callable[[], Any]) -> tuple[Cost, Any]:
        pids = self.server.process.pid, self.gateway.process.pid
        before = [processor_s(pid) for pid in pids]
        held = hold()
        spent = [processor_s(pid) - began for pid, began in zip(pids, before, strict=True)]
        return Cost(*(seconds / (load.calls * load.call_s) for seconds in spent)), held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--soak", type=int, default=200)
    options = parser.parse_args()
    figures = [*compare(options.calls, options.seconds), *soak(options.soak)]
    write("gateway", figures)


def compare(calls: int, seconds: float) -> Iterator[Figure]:
    """Hold the same calls with the server itself and through the gateway, in turn."""
    shares, sums, direct_s, added_ms, p99_ms = [], [], [], [], []
    with start(**_NEVER) as running:
        audio = read_mulaw(*clips(VOICE, "verify"), *clips(VOICE, "enroll"))
        for _ in range(REPEATS):
            load = Load(running.server.address, VOICE, audio, calls, seconds, starts_s=2.0)
            direct, heard = running.measure(load, partial(hold_calls, load))
            assert not heard.failures, heard.failures
            twilio, _ = running.measure(load, partial(hold, load, running, talk_as_twilio))
            beside, samples = hold_side_by_side(load, running)
            shares.append(100 * twilio.gateway / twilio.server)
            joined, _ = running.measure(load, partial(hold_calls, replace(load, message_s=0.1)))
            sums.append((twilio.gateway + twilio.server) / joined.server)
            direct_s.append(1000 * direct.server)
            p99_ms.append(1000 * float(np.quantile(samples, 0.99)))
            added_ms.append(p99_ms[-1] - 1000 * float(np.quantile(beside.latencies_s, 0.99)))
    how = f"{calls} calls of {seconds:.0f} s in mu-law, frames of 20 ms"
    yield figure(
        "gateway_share",
        shares,
        "%",
        below(10.0),
        f"processor time of the gateway over the server's, {how}, as Twilio's",
    )
    both = (
        "processor time of gateway and server for a Twilio call over the server's for the same "
        f"call in messages of 0.1 s, as the client library sends it, {how}"
    )
    yield figure("gateway_total", sums, "x", None, both)
    added = f"p99 of partial results through the gateway less p99 without it, {how}"
    yield figure("gateway_added_p99", added_ms, "ms", below(20.0), added)
    yield figure("gateway_p99", p99_ms, "ms", None, f"p99 of partial results, {how}")
    cost = f"processor time of the server for a second of a call, {how}"
    yield figure("gateway_server_cost", direct_s, "ms", None, cost)


def soak(calls: int) -> Iterator[Figure]:
    """Hold many calls, started over half a minute, each for a minute."""
    with start() as running:
        audio = read_mulaw(*clips(VOICE, "verify"), *clips(VOICE, "enroll"))
        pid = running.gateway.process.pid
        before_mb = resident_mb(pid)
        load = Load(running.server.address, VOICE, audio, calls, 60.0, starts_s=30.0)
        hold(load, running, talk_as_twilio)
        grown_mb = resident_mb(pid) - before_mb
        accepted = running.gateway.terminate().count(": ACCEPTED")
    how = f"{calls} calls of 60 s as Twilio's, started over 30 s"
    share = f"calls of the enrolled voice that were accepted, {how}"
    yield figure("gateway_soak_accepted", [100 * accepted / calls], "%", above(99.0), share)
    yield figure("gateway_soak_growth", [grown_mb], "MB", below(100.0), f"memory, {how}")


@contextmanager
def start(**settings: object) -> Iterator[Running]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = f"sqlite:///{folder}/sayso.db"
        server = stack.enter_context(SaysoServer(store=store, lock_after_failures=0, **settings))
        with server.client() as sayso:
            for path in clips(VOICE, "enroll"):
                sayso.enroll(VOICE, path)
        tokens = folder / "tokens"
        tokens.touch(mode=0o600)
        tokens.write_text(ACCOUNT_KEY)
        gateway = GatewayProcess(
            server.address, pcm="true", twilio_auth_tokens=tokens, public_url=PUBLIC_URL
        )
        yield Running(server, stack.enter_context(gateway))


def hold_side_by_side(load: Load, running: Running) -> tuple[Heard, list[float]]:
    """Hold half of the calls with the server itself and half through the gateway at once, so that
    whatever else the machine does delays both; their latencies."""
    half = replace(load, calls=load.calls // 2)
    with ThreadPoolExecutor(2) as threads:
        direct = threads.submit(hold_calls, half)
        through = threads.submit(hold, half, running, talk_samples)
        return direct.result(), through.result()


Talk = Callable[[str, Load, int, float], Coroutine[Any, Any, list[float]]]


def hold(load: Load, running: Running, talk: Talk) -> list[float]:
    """Hold the calls in a process of their own; latencies of what came back."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_hold, (load, running.gateway.address, talk))


def _hold(load: Load, address: str, talk: Talk) -> list[float]:
    return asyncio.run(_hold_all(load, address, talk))


async def _hold_all(load: Load, address: str, talk: Talk) -> list[float]:
    first_s = asyncio.get_running_loop().time() + 1.0
    begins = [first_s + load.starts_s * number / load.calls for number in range(load.calls)]
    talks = [talk(address, load, number, began_s) for number, began_s in enumerate(begins)]
    return [latency for each in await asyncio.gather(*talks) for latency in each]


async def talk_as_twilio(address: str, load: Load, number: int, began_s: float) -> list[float]:
    start = make_start(f"CA{number}", speaker_id=load.speaker_id)
    messages = [json.dumps(message) for message in make_call(start, b"".join(load.sent(number)))]
    await _sleep_until(began_s)
    url = f"ws://{address}/twilio"
    async with connect(url, additional_headers=sign(), proxy=None) as socket:
        for at, message in enumerate(messages):
            await _sleep_until(began_s + at * MESSAGE_S)
            await socket.send(message)
        await socket.wait_closed()
    return []


async def talk_samples(address: str, load: Load, number: int, began_s: float) -> list[float]:
    frames = load.sent(number)
    first = {
        "call_id": f"call-{number}",
        "speaker_id": load.speaker_id,
        "encoding": "MULAW",
        "sample_rate": 8000,
    }
    await _sleep_until(began_s)
    async with connect(
        f"ws://{address}/pcm",
        subprotocols=[Subprotocol("sayso.v1")],
        additional_headers={"x-api-key": "any"},
        proxy=None,
    ) as socket:
        listening = asyncio.create_task(_listen(socket, began_s))
        await socket.send(json.dumps(first))
        for at, frame in enumerate(frames, start=1):
            await _sleep_until(began_s + at * MESSAGE_S)
            await socket.send(frame)
        await socket.send(json.dumps({"event": "end"}))
        latencies = await listening
    return latencies[:-1]  # the last result is of the end, not of the audio


async def _listen(socket: ClientConnection, began_s: float) -> list[float]:
    loop = asyncio.get_running_loop()
    return [loop.time() - began_s - json.loads(message)["audio_s"] async for message in socket]


async def _sleep_until(due_s: float) -> None:
    if (ahead_s := due_s - asyncio.get_running_loop().time()) > 0:
        await asyncio.sleep(ahead_s)


if __name__ == "__main__":
    main()
