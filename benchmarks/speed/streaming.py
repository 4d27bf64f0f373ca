"""Measure how many calls a server holds at once, and what an idle call costs.

    python -m benchmarks.speed.streaming [--model models/sayso.onnx] [--label default] [--target 40]

Writes benchmarks/results/streaming.json, and keeps there what was measured of other labels. A real
`sayso serve` on `--cores` cores of its own answers calls of G.711 in messages of 20 ms, held by
processes on the other cores. So many are held at once as have 99% of their partial results within
300 ms of the audio that they cover; the number is found by doubling and bisection. What else the
machine did meanwhile is told beside it: latencies want one that does nothing else.
"""

import argparse
import asyncio
import io
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.figures import Figure, above, below, figure, merge
from benchmarks.processes import MB, Usage, confine_to_cores, processor_s, resident_mb
from benchmarks.speed.bare import measure_streamed_s
from benchmarks.speed.callers import (
    CALLS_PER_CHANNEL,
    RATE,
    Heard,
    Load,
    dial,
    hold_calls,
    make_opening,
    open_channel,
)
from service.inference.session import Session
from service.settings import SHIPPED_MODEL
from tests.support.sayso_server import ROOT, SaysoServer

WITHIN_S = 0.3
SHARE = 0.99
IDLE_CALLS = 1000
IDLE_TARGET_MB = 300
VOICE = "slt"
STEP = 0.06  # of the highest number: where a search stops
FIRST = 20  # calls to begin with
REPEATS = 3
OVER_BARE = {0.02: 2.0, 0.1: 1.4}
"""Seconds of a message, and how many times the bare cost of a call the server may take."""
CAPACITY_S = 2.0
SETTLED_S = 2.0


@dataclass(frozen=True, slots=True)
class Trial:
    """Calls held at once and what was heard; `server` and `others` are the cores that they used."""

    calls: int
    heard: Heard
    server: float
    others: float

    @property
    def late_s(self) -> float:
        """The time within which 99% of the partial results came, seconds."""
        found = self.heard.latencies_s
        return float(np.quantile(found, SHARE)) if len(found) else float("inf")

    @property
    def succeeded(self) -> bool:
        heard = self.heard
        return self.late_s <= WITHIN_S and not heard.failures and not heard.silent

    def __str__(self) -> str:
        heard = self.heard
        lag_ms = 1e3 * np.quantile(heard.lags_s, SHARE)
        return (
            f"{self.calls:5d} calls {'held' if self.succeeded else 'NOT held'}: 99% of "
            f"{len(heard.latencies_s)} results within {1e3 * self.late_s:.0f} ms, callers within "
            f"{lag_ms:.1f} ms; cores: server {self.server:.2f}, callers {heard.cores:.2f}, others "
            f"{self.others:.2f}; {heard.silent} silent, {len(heard.failures)} failed "
            f"{' '.join(heard.failures[:1])}"
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """How a trial is made: seconds of a call, over which calls start, and processes that call."""

    call_s: float
    starts_s: float
    processes: int


def read_call_audio() -> bytes:
    """Read all of the demo's recordings, one voice after the other, as mu-law at 8 kHz."""
    made = io.BytesIO()
    for path in sorted((ROOT / "demo" / "audio").glob("*/*.*")):
        samples, rate = soundfile.read(path, dtype="float32")
        soundfile.write(made, samples[:: rate // RATE], RATE, format="RAW", subtype="ULAW")
    return made.getvalue()


@contextmanager
def start_server(model: Path, cores: int) -> Iterator[SaysoServer]:
    """Start a server on the first `cores` cores, with a voice enrolled."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        running = SaysoServer(
            store=f"sqlite:///{folder}/sayso.db",
            model=model,
            threads=cores,
            max_streams=2 * IDLE_CALLS,
            lock_after_failures=0,  # clips of others claim to be the voice
            log_level="warning",
        )
        with confine_to_cores(set(sorted(os.sched_getaffinity(0))[:cores])):
            stack.enter_context(running)
        with running.client() as sayso:
            sayso.enroll(VOICE, ROOT / "demo/audio/slt/enroll-1.flac")
        yield running


def try_calls(running: SaysoServer, audio: bytes, shape: Shape, calls: int) -> Trial:
    load = Load(running.address, VOICE, audio, calls, shape.call_s, shape.starts_s)
    usage = Usage(running.process.pid)
    heard = hold_calls(load, shape.processes)
    server_cores, all_cores = usage.cores()
    trial = Trial(calls, heard, server_cores, max(0.0, all_cores - server_cores - heard.cores))
    print(trial, flush=True)
    return trial


def find_highest(attempt: Callable[[int], Trial], first: int) -> Trial | None:
    """Find the trial with most calls that succeeded, within `STEP` of the fewest that did not."""
    best, failed, calls = None, 0, first
    while True:
        trial = attempt(calls)
        if trial.succeeded:
            best = trial
        else:
            failed = calls
        reached = best.calls if best else 0
        if failed and failed - reached <= max(1, STEP * reached):
            return best
        calls = (failed + reached) // 2 if failed else 2 * calls


def measure_windows_rate(model: Path, cores: int) -> float:
    """Measure windows a second of processor time by inference alone, on the server's cores."""
    script = (
        "import sys; from pathlib import Path;"
        "from benchmarks.speed.streaming import infer_windows;"
        "print(infer_windows(Path(sys.argv[1]), int(sys.argv[2])))"
    )
    with confine_to_cores(set(range(cores))):
        done = subprocess.run(
            [sys.executable, "-c", script, str(model), str(cores)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
    return float(done.stdout)


def infer_windows(model: Path, cores: int) -> float:
    """Measure as `measure_windows_rate` does, in this process."""
    session = Session.open(model, device="cpu", threads=cores)
    noise = np.random.default_rng(0).normal(0, 0.1, (4, session.contract.window_samples))
    windows = noise.astype(np.float32)
    began_s, done = time.process_time(), 0
    while (taken_s := time.process_time() - began_s) < CAPACITY_S:
        session.run(windows)
        done += len(windows)
    return done / taken_s


async def hold_idle(running: SaysoServer, calls: int) -> list[float]:
    """Measure the server's resident memory in MB before, and while holding calls without audio."""
    pid = running.process.pid
    memory = [resident_mb(pid)]
    channels = [open_channel(running.address) for _ in range(calls // CALLS_PER_CHANNEL)]
    try:
        calls_open = []
        for number in range(calls):
            calls_open.append(dial(channels[number % len(channels)]))
            await calls_open[-1].write(make_opening(VOICE))
        await asyncio.sleep(SETTLED_S)
        memory.append(resident_mb(pid))
        return memory
    finally:
        for each in channels:
            await each.close()


def measure_idle(model: Path, cores: int) -> list[Figure]:
    """Measure idle calls on a server that has heard nothing but an enrolment."""
    with start_server(model, cores) as running:
        before_mb, after_mb = asyncio.run(hold_idle(running, IDLE_CALLS))
    how = f"{IDLE_CALLS} calls that were opened and say nothing"
    each_kb = (after_mb - before_mb) * MB / 1e3 / IDLE_CALLS
    return [
        figure("idle_resident", [after_mb], "MB", below(IDLE_TARGET_MB), f"the server with {how}"),
        figure("idle_resident_before", [before_mb], "MB", None, "the server before them"),
        figure("idle_resident_per_call", [each_kb], "kB", None, f"what it grew by, over {how}"),
    ]


def measure_bare_s(model: Path, load: Load, cores: int) -> float:
    """Measure as `bare.measure_streamed_s` does, in a process on the server's cores."""
    with confine_to_cores(set(range(cores))), multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure_streamed_s, (model, load))


def measure_spent_s(running: SaysoServer, load: Load) -> float:
    """Measure the seconds of a core that the server takes for a second of the load's calls."""
    began_s = processor_s(running.process.pid)
    heard = hold_calls(load)
    assert not heard.failures, heard.failures
    return (processor_s(running.process.pid) - began_s) / (load.calls * load.call_s)


def measure_bare(running: SaysoServer, audio: bytes, model: Path, cores: int) -> list[Figure]:
    """Measure what a call costs the server over what its audio costs without one, in turn."""
    loads = {
        message_s: Load(running.address, VOICE, audio, 8, 20.0, 0.0, pace=100, message_s=message_s)
        for message_s in OVER_BARE
    }
    ratios: dict[float, list[float]] = {message_s: [] for message_s in loads}
    for _ in range(REPEATS):
        for message_s, load in loads.items():
            ratios[message_s].append(
                measure_spent_s(running, load) / measure_bare_s(model, load, cores)
            )
    how = (
        "processor time of the server for a second of a call in messages of {:g} ms, unpaced, over "
        "that of the same audio through decoder, voice activity and inference in a loop, in turn"
    )
    return [
        figure(
            f"processor_over_bare_{1e3 * message_s:g}ms",
            ratios[message_s],
            "ratio",
            below(OVER_BARE[message_s]),
            how.format(1e3 * message_s),
        )
        for message_s in loads
    ]


def measure_processor(
    running: SaysoServer, audio: bytes, aim: float, model: Path, cores: int
) -> list[Figure]:
    """Measure calls sent as fast as they go, by processor time, which other work does not
    change."""
    pid, calls, call_s = running.process.pid, 8, 20.0
    load = Load(running.address, VOICE, audio, calls, call_s, 0.0, pace=100)
    hold_calls(load)
    taken, shares = [], []
    for _ in range(REPEATS):
        began_s = processor_s(pid)
        heard = hold_calls(load)
        taken.append((processor_s(pid) - began_s) / (calls * call_s))
        inferred = heard.results / (calls * call_s) / measure_windows_rate(model, cores)
        shares.append(inferred / taken[-1])
    how = f"{calls} calls of {call_s:g} s at once, {heard.speech_share:.0%} speech, unpaced"
    each_ms = [1e3 * one for one in taken]
    by_time = [1 / one for one in taken]
    spent = f"processor time of the server for a second of a call; {how}"
    bare = "of that, what inference alone takes for as many windows, in turn"
    return [
        figure("processor_per_second", each_ms, "ms", None, spent),
        figure(
            "per_core_by_processor_time", by_time, "calls", above(aim), f"its reciprocal; {how}"
        ),
        figure("inference_share", shares, "ratio", None, bare),
    ]


def make_call_figures(best: list[Trial], aim: float, cores: int) -> list[Figure]:
    """Make figures of repeated trials with the highest number of calls that succeeded."""
    calls = best[0].calls
    share = float(np.mean([trial.heard.speech_share for trial in best]))
    lag_ms = [1e3 * float(np.quantile(trial.heard.lags_s, SHARE)) for trial in best]
    others = ", ".join(f"{trial.others:.1f}" for trial in best)
    how = (
        f"{calls} calls at once, {share:.0%} of them speech, on {cores} core(s); callers on the "
        f"rest of {os.cpu_count()}; other work on this machine took {others} cores meanwhile"
    )
    return [
        figure("per_core", [calls / cores], "calls", above(aim), how),
        figure("p99", [1e3 * trial.late_s for trial in best], "ms", below(1e3 * WITHIN_S), how),
        figure("caller_lag_p99", lag_ms, "ms", None, f"by which messages left late; {how}"),
        figure("server_cores", [trial.server for trial in best], "cores", None, f"used; {how}"),
    ]


def confirm(attempt: Callable[[int], Trial], best: Trial) -> list[Trial]:
    """Repeat trials, from the calls of `best` down by `STEP`, until most of a number's succeed.

    Returns that number's trials; none if no number succeeds."""
    trials, calls = [best], best.calls
    while calls > 0:
        trials += [attempt(calls) for _ in range(REPEATS - len(trials))]
        if 2 * sum(trial.succeeded for trial in trials) > REPEATS:
            return trials
        trials, calls = [], calls - max(1, round(STEP * calls))
    return []


def measure_calls(
    running: SaysoServer, audio: bytes, arguments: argparse.Namespace
) -> list[Figure]:
    """Measure the highest number of calls at the pace of the clock; needs an idle machine."""
    shape = Shape(arguments.call_s, arguments.call_s / 4, arguments.processes)

    def attempt(calls: int) -> Trial:
        return try_calls(running, audio, shape, calls)

    best = find_highest(attempt, arguments.first)
    trials = [] if best is None else confirm(attempt, best)
    if not trials:
        return [figure("per_core", [0], "calls", above(arguments.target), "not even one was held")]
    return make_call_figures(trials, arguments.target, arguments.cores)


def measure_all(arguments: argparse.Namespace) -> list[Figure]:
    model, cores, audio = arguments.model.resolve(), arguments.cores, read_call_audio()
    figures = measure_idle(model, cores)
    with start_server(model, cores) as running, callers_aside(cores):
        figures = measure_processor(running, audio, arguments.target, model, cores) + figures
        figures = measure_bare(running, audio, model, cores) + figures
        if not arguments.unpaced:
            figures = measure_calls(running, audio, arguments) + figures
    return figures


@contextmanager
def callers_aside(cores: int) -> Iterator[None]:
    """Run callers on the cores that the server does not have; on all if it has them all."""
    every = sorted(os.sched_getaffinity(0))
    with confine_to_cores(set(every[cores:] or every)):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--label", default="default", help="what the figures are called by")
    parser.add_argument("--target", type=float, default=40, help="calls a core to hold")
    parser.add_argument("--cores", type=int, default=1, help="of the server; callers take the rest")
    parser.add_argument("--processes", type=int, default=1, help="that hold the calls")
    parser.add_argument("--unpaced", action="store_true", help="nothing that wants an idle machine")
    parser.add_argument("--call-s", type=float, default=24.0)
    parser.add_argument("--first", type=int, default=FIRST, help="calls to begin with")
    arguments = parser.parse_args()
    prefix = f"streaming_{arguments.label}_"
    merge(
        "streaming",
        prefix,
        [one | {"name": prefix + one["name"]} for one in measure_all(arguments)],
    )


if __name__ == "__main__":
    main()
