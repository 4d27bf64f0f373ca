"""Measure what a second worker process brings on two cores, and what blocks the event loop.

    python -m benchmarks.speed.workers [--turns 5] [--seconds 4] [--callers 16]

Writes benchmarks/results/workers.json. Closed-loop callers with a connection each send clips of 1
to 10 s over loopback to three servers in turn: one process with one inference thread, one with as
many as there are cores, and two workers. Then a server in this process is watched while it is sent
clips, files of a minute and streams: the processor time of each step of its event loop, which other
work on the machine does not lengthen.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import soundfile
from sayso import Client, RawAudio

from benchmarks.figures import Figure, figure, merge
from benchmarks.processes import confine_to_cores, processor_s
from benchmarks.speed.callers import Load, hold_calls
from benchmarks.speed.clips import RATE, cut_mixed, read_voices
from benchmarks.speed.streaming import VOICE, read_call_audio
from benchmarks.speed.verifying import VERIFY, start_process
from service.server import open_server
from service.settings import Settings
from tests.support.sayso_server import ROOT, SaysoServer

CORES = 2
FILE_S = 60
STREAMS = 8
STREAM_S = 10.0
LEAST_STEPS_S = 0.001
RAW = RawAudio("MULAW", 8000)
ENROLMENT = ROOT / "demo/audio/slt/enroll-1.flac"
SERVERS: Mapping[str, Mapping[str, Any]] = {
    "one_thread": {"threads": 1},
    "one_process": {"threads": CORES},
    "two_workers": {"workers": 2},
}


@dataclass(frozen=True, slots=True)
class Turn:
    """Calls a second, the cores that server and callers took, and the busiest worker's share."""

    rate: float
    cores: float
    callers: float
    busiest: float

    @property
    def by_processor_time(self) -> float:
        """Calls in a second of the server's processor time, which other work does not change."""
        return self.rate / self.cores


def call_repeatedly(address: str, requests: Sequence[bytes], callers: int, seconds: float) -> Any:
    """Call in a closed loop, each caller on its own connection; return calls a second and cores."""
    until_s = time.monotonic() + seconds
    began_cpu_s = time.process_time()

    def call(number: int) -> int:
        options = (("grpc.use_local_subchannel_pool", 1),)
        with grpc.insecure_channel(address, options=options) as line:
            send: Any = line.unary_unary(VERIFY)
            done = 0
            while time.monotonic() < until_s:
                send(requests[(number * 7 + done) % len(requests)], timeout=60.0)
                done += time.monotonic() < until_s
            return done

    with ThreadPoolExecutor(callers) as pool:
        calls = sum(pool.map(call, range(callers)))
    return calls / seconds, (time.process_time() - began_cpu_s) / seconds


def list_processes(server: SaysoServer) -> list[int]:
    """List the processes that serve: the workers, or the only one."""
    pid = server.process.pid
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in listed.split()] or [pid]


def proportional_mb(pid: int) -> float:
    """Read a process's memory, shared pages counted by its share of them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024 / 1e6


@contextmanager
def start_server(settings: Mapping[str, Any]) -> Iterator[SaysoServer]:
    with tempfile.TemporaryDirectory() as folder:
        server = SaysoServer(
            store=f"sqlite:///{folder}/sayso.db",
            log_level="warning",
            device="cpu",
            lock_after_failures=0,  # clips of others claim to be the voice
            **settings,
        )
        with server, server.client() as sayso:
            sayso.enroll(VOICE, ENROLMENT)
            yield server


def measure_turn(server: SaysoServer, callers: Executor, arguments: argparse.Namespace) -> Turn:
    requests = [clip.request(VOICE) for clip in cut_mixed()]
    pids, began_s = list_processes(server), time.monotonic()
    before_s = np.array([processor_s(pid) for pid in pids])
    rate, cores = callers.submit(
        call_repeatedly, server.address, requests, arguments.callers, arguments.seconds
    ).result()
    took_s = np.array([processor_s(pid) for pid in pids]) - before_s
    server_cores = float(took_s.sum()) / (time.monotonic() - began_s)
    return Turn(rate, server_cores, cores, float(took_s.max() / took_s.sum()))


def measure_scaling(arguments: argparse.Namespace) -> list[Figure]:
    """Measure three servers in turn."""
    cores = set(sorted(os.sched_getaffinity(0))[:CORES])
    found: dict[str, list[Turn]] = {name: [] for name in SERVERS}
    with ExitStack() as stack:
        stack.enter_context(confine_to_cores(cores))
        callers = stack.enter_context(start_process(cores))
        running = {name: stack.enter_context(start_server(how)) for name, how in SERVERS.items()}
        for number in range(arguments.turns + 1):
            for name, server in running.items():
                made = measure_turn(server, callers, arguments)
                print(name, made, flush=True)
                if number:  # the first one warms up
                    found[name].append(made)
        memory_mb = {
            name: sum(map(proportional_mb, {server.process.pid, *list_processes(server)}))
            for name, server in running.items()
        }
    return _scaling_figures(found, memory_mb, arguments)


def _scaling_figures(
    found: Mapping[str, Sequence[Turn]],
    memory_mb: Mapping[str, float],
    arguments: argparse.Namespace,
) -> list[Figure]:
    how = f"{arguments.callers} callers, a connection each, on the server's {CORES} cores"
    made = []
    for name, turns in found.items():
        taken = np.median([one.callers for one in turns])
        explained = f"{how}; they took {taken:.2f} cores"
        made += [
            figure(f"workers_{name}", [one.rate for one in turns], "calls/s", None, explained),
            figure(
                f"workers_{name}_memory",
                [memory_mb[name]],
                "MB",
                None,
                "proportional set size of all its processes, after the calls",
            ),
        ]
    two = found["two_workers"]
    for other in ("one_thread", "one_process"):
        pairs = list(zip(two, found[other], strict=True))
        ratios = [mine.rate / theirs.rate for mine, theirs in pairs]
        by_time = [mine.by_processor_time / theirs.by_processor_time for mine, theirs in pairs]
        versus = f"of two workers over those of {other}, in turn; {how}"
        name = f"workers_two_over_{other}"
        made += [
            figure(name, ratios, "ratio", None, f"calls a second {versus}"),
            figure(
                f"{name}_by_processor_time",
                by_time,
                "ratio",
                None,
                f"calls in a second of the server's processor time {versus}",
            ),
        ]
    shares = [one.busiest for one in two]
    busiest = "of the processor time of two workers, the busier one's"
    return [*made, figure("workers_busiest_share", shares, "share", None, busiest)]


class Steps:
    """Steps of the event loop: how many, and the processor time of those that take at least
    `LEAST_STEPS_S`."""

    def __init__(self) -> None:
        self.taken_s: list[float] = []
        self.longest: dict[str, float] = {}
        self.count = 0

    @contextmanager
    def watch(self) -> Iterator[None]:
        run: Callable[[asyncio.Handle], None] = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            began_s = time.thread_time()
            run(handle)
            took_s = time.thread_time() - began_s
            self.count += 1
            if took_s >= LEAST_STEPS_S:
                self.taken_s.append(took_s)
                name = repr(handle)[:160]
                self.longest[name] = max(took_s, self.longest.get(name, 0.0))

        setattr(asyncio.Handle, "_run", timed)  # noqa: B010 - its type is not a method's
        try:
            yield
        finally:
            setattr(asyncio.Handle, "_run", run)  # noqa: B010


def verify_files(address: str, seconds: float) -> None:
    """Verify a FLAC file of a minute, one call after the other, and enroll it."""
    with tempfile.NamedTemporaryFile(suffix=".flac") as made, Client(address) as sayso:
        samples = np.resize(np.concatenate(read_voices()), FILE_S * RATE)
        soundfile.write(made.name, samples, RATE, format="FLAC")
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            sayso.verify(VOICE, Path(made.name))
            sayso.enroll("other", Path(made.name))


def stream_big_messages(address: str, seconds: float) -> None:
    """Stream in the largest messages allowed."""
    message = bytes(read_call_audio()[:15_000])
    with Client(address) as sayso:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            for _ in sayso.verify_stream(VOICE, [message] * 10, raw=RAW):
                pass


async def measure_steps(arguments: argparse.Namespace) -> list[Figure]:
    """Run the server on this event loop under every kind of load at once."""
    watched = Steps()
    loop = asyncio.get_running_loop()
    with (
        tempfile.TemporaryDirectory() as folder,
        start_process(set(os.sched_getaffinity(0))) as callers,
    ):
        settings = Settings.read(
            listen="127.0.0.1:0",
            store=f"sqlite:///{folder}/sayso.db",
            device="cpu",
            lock_after_failures=0,  # clips of others claim to be the voice
        )
        async with open_server(settings) as running:
            await asyncio.to_thread(enroll_voice, running.address)
            requests = [clip.request(VOICE) for clip in cut_mixed()]
            load = Load(running.address, VOICE, read_call_audio(), STREAMS, STREAM_S, 1.0)
            loads = (
                (call_repeatedly, running.address, requests, 4, arguments.seconds),
                (verify_files, running.address, arguments.seconds),
                (stream_big_messages, running.address, arguments.seconds),
                (hold_calls, load),
            )
            with watched.watch():
                for each in loads:
                    await loop.run_in_executor(callers, *each)
    for name, took_s in sorted(watched.longest.items(), key=lambda one: -one[1])[:10]:
        print(f"{took_s * 1e3:8.2f} ms  {name}")
    how = f"processor time of {watched.count:,} steps under clips, files of a minute and streams"
    return [
        figure("loop_longest_step", [1e3 * max(watched.taken_s, default=0.0)], "ms", None, how),
        figure(
            "loop_long_steps",
            [len(watched.taken_s)],
            "steps",
            None,
            f"of {LEAST_STEPS_S * 1e3:g} ms and more; {how}",
        ),
    ]


def enroll_voice(address: str) -> None:
    with Client(address) as sayso:
        sayso.enroll(VOICE, ENROLMENT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--callers", type=int, default=16)
    arguments = parser.parse_args()
    merge("workers", "loop_", asyncio.run(measure_steps(arguments)))
    merge("workers", "workers_", measure_scaling(arguments))


if __name__ == "__main__":
    main()
