"""Measure how much of a device's capacity a server uses, by the number of waiting callers.

    python -m benchmarks.speed.serving [--model models/sayso.onnx] [--cores 2] [--turns 3]
        [--seconds 3]

Writes benchmarks/results/serving.json. Callers send clips of 1 to 10 s, in G.711 and PCM, to a real
`sayso serve` over loopback, and each waits for its answer. Its windows a second stand beside those
of loops that take turns with it: of the same session, in its best form, and of decoding, voice
activity and the session. What the callers take of the server's cores is measured, and the loops'
rates are scaled to what they left.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Figure, above, figure, merge
from benchmarks.processes import Usage
from benchmarks.speed import bare
from benchmarks.speed.bare import Form, Rate
from benchmarks.speed.clips import Clip, cut_mixed
from benchmarks.speed.streaming import VOICE, start_server
from benchmarks.speed.unheard import replace_voice_activity
from benchmarks.speed.verifying import list_other_cores, send_in_turn, start_process
from service.audio.speech import VoiceActivity
from service.inference.session import Session
from service.settings import SHIPPED_MODEL
from tests.support.sayso_server import SaysoServer

CALLERS = (1, 2, 4, 8, 16, 32, 64)
SETTLING_S = 1.5
SPEECH, SILENT = "speech", "all_speech"  # voice activity at work, and taken for granted
AIMS = {SPEECH: 0.9, SILENT: 0.95}
PIPELINES = {
    SPEECH: "decoding, voice activity and inference",
    SILENT: "decoding, cutting windows and inference",
}
LEFT = "loops scaled to what the callers left of the cores"
RATE = "windows/s"


@dataclass(frozen=True, slots=True)
class Turn:
    """The rates of the bare loops and of the server after them, the cores that callers and others
    took meanwhile, and the share of the server's cores that the callers left."""

    session: Rate
    pipeline: Rate
    server: Rate
    callers: float
    others: float
    left: float

    def over(self, loop: Rate) -> float:
        """Divide the server's windows a second by those of a loop on the cores that callers
        left."""
        return self.server.windows / (loop.windows * self.left)

    def by_processor_time(self, loop: Rate) -> float:
        """The same for a second of processor time, which other work on the cores does not
        change."""
        return (self.server.windows / self.server.cores) / (loop.windows / loop.cores)


@dataclass(frozen=True, slots=True)
class Bench:
    """What takes turns on `cores`: loops run in one process, callers in another."""

    model: Path
    cores: int
    seconds: float
    form: Form
    loops: Executor
    callers: Executor
    clips: Sequence[Clip]

    def turn(self, running: SaysoServer, heard_by: Path | None, callers: int) -> Turn:
        half_s, total_s = self.seconds / 2, SETTLING_S + self.seconds
        session = self._run_loop(bare.measure_session, self.model, self.form, half_s)
        pipeline = self._run_loop(
            bare.measure_pipeline, self.model, self.form, self.clips, half_s, heard_by
        )
        requests = [clip.request(VOICE) for clip in self.clips]
        usage = Usage(running.process.pid)
        answers = self.callers.submit(
            send_in_turn, running.address, requests, callers, total_s
        ).result()
        server_cores, every = usage.cores()
        windows = self.windows(heard_by)[answers.select_answered(SETTLING_S, total_s)].sum()
        shared = self.cores >= len(os.sched_getaffinity(0))
        return Turn(
            session,
            pipeline,
            Rate(float(windows / self.seconds), server_cores),
            answers.cores,
            others=max(0.0, every - server_cores - answers.cores),
            left=1 - answers.cores / self.cores if shared else 1.0,
        )

    def windows(self, heard_by: Path | None) -> NDArray[np.int64]:
        """Count the windows that the service makes of each clip, `(clips,)`."""
        vad = VoiceActivity.open(heard_by)
        contract = Session.open(self.model, device="cpu", threads=1).contract
        return np.array(
            [len(bare.cut_windows(contract, vad, each.samples())) for each in self.clips]
        )

    def _run_loop(self, rate: Callable[..., Rate], *asked: object) -> Rate:
        return self.loops.submit(rate, *asked).result()


def compare(bench: Bench, kind: str, callers: Sequence[int], turns: int) -> list[Figure]:
    """Measure every number of callers in turn with the loops, `turns` times."""
    with ExitStack() as stack:
        heard_by = stack.enter_context(replace_voice_activity()) if kind == SILENT else None
        running = stack.enter_context(start_server(bench.model, bench.cores))
        found: dict[int, list[Turn]] = {number: [] for number in callers}
        for _ in range(turns):
            for number in callers:
                found[number].append(bench.turn(running, heard_by, number))
                print(kind, number, found[number][-1], flush=True)
    return make_figures(kind, found, bench)


def make_figures(kind: str, found: dict[int, list[Turn]], bench: Bench) -> list[Figure]:
    """Make figures of the number of callers with most windows a second, and of all the others."""
    most = max(found, key=lambda number: median(one.server.windows for one in found[number]))
    turns, how = found[most], f"{most} callers; {describe(kind, bench)}"
    named, aim = f"serving_{kind}", above(AIMS[kind])
    made = []
    for loop, what in (("session", "inference alone"), ("pipeline", PIPELINES[kind])):
        pairs = [(one, getattr(one, loop)) for one in turns]
        beside = f"the server's windows over those of {what} in a loop"
        over, by_time = (
            [turn.over(rate) for turn, rate in pairs],
            [turn.by_processor_time(rate) for turn, rate in pairs],
        )
        made += [
            figure(
                f"{named}_over_{loop}", over, "ratio", aim, f"a second, {beside}; {LEFT}; {how}"
            ),
            figure(
                f"{named}_over_{loop}_by_processor_time",
                by_time,
                "ratio",
                None,
                f"a second of processor time, {beside}; {how}",
            ),
            figure(f"{named}_{loop}_loop", [rate.windows for _, rate in pairs], RATE, None, how),
        ]
    made.append(figure(f"{named}_server", [one.server.windows for one in turns], RATE, None, how))
    for name, values in {
        "server": [one.server.cores for one in turns],
        "caller": [one.callers for one in turns],
        "other": [one.others for one in turns],
    }.items():
        made.append(figure(f"{named}_{name}_cores", values, "cores", None, f"used; {how}"))
    return made + [by_callers(named, number, turns) for number, turns in found.items()]


def by_callers(named: str, number: int, turns: Sequence[Turn]) -> Figure:
    rate = median(one.server.windows for one in turns)
    took = median(one.callers for one in turns)
    return figure(
        f"{named}_over_session_{number}_callers",
        [one.over(one.session) for one in turns],
        "ratio",
        None,
        f"{rate:.0f} windows/s; the callers took {took:.2f} cores",
    )


def describe(kind: str, bench: Bench) -> str:
    heard = "" if kind == SPEECH else ", its voice activity replaced by one that answers at no cost"
    return (
        f"a server on {bench.cores} core(s){heard}, clips of 1 to 10 s in G.711 and PCM, the loops "
        f"as {bench.form}; medians of turns of {bench.seconds:g} s"
    )


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--cores", type=int, default=2, help="of the server and of the loops")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="that a turn of the server takes"
    )
    parser.add_argument("--callers", type=int, nargs="+", default=CALLERS)
    arguments = parser.parse_args(given)
    every = sorted(os.sched_getaffinity(0))
    model, own = arguments.model.resolve(), set(every[: arguments.cores])
    with start_process(own) as loops, start_process(list_other_cores(arguments.cores)) as callers:
        form = loops.submit(
            bare.find_best_form, model, arguments.cores, arguments.seconds / 8
        ).result()
        bench = Bench(model, arguments.cores, arguments.seconds, form, loops, callers, cut_mixed())
        found = [
            one for kind in AIMS for one in compare(bench, kind, arguments.callers, arguments.turns)
        ]
    merge("serving", "serving_", found)


if __name__ == "__main__":
    main()
