"""Measure how soon a server answers `Verify`, from 10% to 90% of its capacity.

    python -m benchmarks.speed.latency [--model models/sayso.onnx] [--cores 2] [--turns 3]
        [--seconds 10]

Writes benchmarks/results/latency.json and latency.png. Requests of 1 to 10 s arrive by chance, at
shares of the rate at which callers that wait for their answers saturate the server. A latency is
from when the request was due. What decoding, voice activity and inference of the same clips take
in a loop that has the cores to itself is measured in turn, with pauses as long as those between
requests at a tenth of the load.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Picture
from numpy.typing import NDArray

from benchmarks.figures import RESULTS, Aim, Figure, below, figure, merge
from benchmarks.speed import bare
from benchmarks.speed.clips import cut_mixed
from benchmarks.speed.streaming import VOICE, start_server
from benchmarks.speed.verifying import (
    Answers,
    list_other_cores,
    send_at_random,
    send_in_turn,
    start_process,
)
from service.settings import SHIPPED_MODEL

LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
SATURATING = 16
SATURATION_S = 4.0
BARE_REPEATS = 3
EXCESS_MS, EXCESS_AT = 3.0, 0.1
TAIL_RATIO, TAIL_AT = 3.0, 0.8

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trial:
    """What came back at a load, and the seconds that the same requests cost without a server."""

    answers: Answers
    costs_s: Times  # (n,) of each request

    @property
    def latencies_ms(self) -> Times:
        return 1e3 * self.answers.latencies_s

    @property
    def excess_ms(self) -> float:
        """The median of what the server adds to a request."""
        return float(np.median(self.latencies_ms - 1e3 * self.costs_s))

    @property
    def lag_ms(self) -> float:
        """How late 99% of the requests were sent, at most."""
        answers = self.answers
        return 1e3 * float(np.quantile(answers.sent_s - answers.due_s, 0.99))

    def quantile_ms(self, share: float) -> float:
        return float(np.quantile(self.latencies_ms, share))


Trials = dict[float, list[Trial]]  # by load, one of each turn


def measure(arguments: argparse.Namespace) -> tuple[Trials, float]:
    """Measure trials at every load, and the saturated rate in requests a second."""
    model, clips = arguments.model.resolve(), cut_mixed()
    requests = [clip.request(VOICE) for clip in clips]
    own = set(sorted(os.sched_getaffinity(0))[: arguments.cores])
    found: Trials = {load: [] for load in arguments.loads}
    with (
        start_server(model, arguments.cores) as running,
        start_process(own) as loops,
        start_process(list_other_cores(arguments.cores)) as callers,
    ):
        rate = measure_saturation(
            callers.submit(
                send_in_turn, running.address, requests, SATURATING, SATURATION_S
            ).result()
        )
        for turn in range(arguments.turns):
            alone = loops.submit(
                bare.measure_costs_s,
                model,
                arguments.cores,
                clips,
                BARE_REPEATS,
                1 / (EXCESS_AT * rate),
            ).result()
            for number, load in enumerate(arguments.loads):
                seed = turn * len(arguments.loads) + number
                answers = callers.submit(
                    send_at_random, running.address, requests, load * rate, arguments.seconds, seed
                ).result()
                found[load].append(Trial(answers, alone[answers.which].astype(np.float64)))
    return found, rate


def measure_saturation(answers: Answers) -> float:
    """Count requests a second over the second half of the run."""
    half_s = SATURATION_S / 2
    return len(answers.select_answered(half_s, SATURATION_S)) / half_s


def figures(found: Trials, rate: float, cores: int) -> list[Figure]:
    how = f"{rate:.1f} requests a second saturate {cores} core(s); clips of 1 to 10 s"
    made = [figure("latency_saturated_rate", [rate], "requests/s", None, how)]
    if EXCESS_AT in found:
        trials = found[EXCESS_AT]
        alone = "over decoding, voice activity and inference of the same clip with no server"
        values = [trial.excess_ms for trial in trials]
        explained = f"median of what a request takes at {EXCESS_AT:.0%} of the load {alone}; {how}"
        made.append(figure("latency_excess_at_10", values, "ms", below(EXCESS_MS), explained))
        costs = [1e3 * float(np.median(trial.costs_s)) for trial in trials]
        made.append(figure("latency_bare", costs, "ms", None, f"that cost, median; {how}"))
    for load, trials in found.items():
        ratios = [trial.quantile_ms(0.99) / trial.quantile_ms(0.5) for trial in trials]
        aim: Aim | None = below(TAIL_RATIO) if load == TAIL_AT else None
        count = sum(len(trial.answers.which) for trial in trials)
        late = max(trial.lag_ms for trial in trials)
        sent = f"99% of them sent at most {late:.1f} ms late"
        explained = f"{count} requests at {load:.0%} of the saturated rate, {sent}"
        name = f"latency_at_{100 * load:.0f}"
        made += [
            figure(
                f"{name}_{title}", [each.quantile_ms(at) for each in trials], "ms", None, explained
            )
            for title, at in QUANTILES.items()
        ]
        made.append(figure(f"{name}_p99_over_p50", ratios, "ratio", aim, explained))
    return made


def draw(found: Trials, rate: float, cores: int, path: Path) -> None:
    """Latency against load: the median of the turns, and from their least to their most."""
    picture = Picture(figsize=(7.5, 4.8), layout="constrained")
    axes = picture.add_subplot()
    loads = [100 * load for load in found]
    for title, at in reversed(QUANTILES.items()):
        turns = np.array([[each.quantile_ms(at) for each in trials] for trials in found.values()])
        (line,) = axes.plot(loads, np.median(turns, axis=1), marker="o", label=title)
        axes.fill_between(
            loads, turns.min(axis=1), turns.max(axis=1), color=line.get_color(), alpha=0.15, lw=0
        )
    bare_ms = 1e3 * np.median(np.concatenate([t.costs_s for ts in found.values() for t in ts]))
    axes.axhline(
        bare_ms, color="0.4", ls="--", lw=1, label=f"median with no server, {bare_ms:.0f} ms"
    )
    axes.set_xlabel(f"load, % of the {rate:.0f} requests/s that saturate the server")
    axes.set_ylabel("from due to answered, ms")
    axes.set_xlim(0, 100)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(which="both", alpha=0.2)
    axes.legend(frameon=False)
    turns_count = len(next(iter(found.values())))
    axes.set_title(
        f"Verify on {cores} core(s): clips of 1 to 10 s, G.711 and PCM, Poisson arrivals\n"
        f"line: median of {turns_count} turn(s); band: least to most",
        fontsize=10,
        loc="left",
    )
    path.parent.mkdir(exist_ok=True)
    picture.savefig(path, dpi=150)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--cores", type=int, default=2, help="of the server and of the bare loop")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load in a turn")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    arguments = parser.parse_args(given)
    found, rate = measure(arguments)
    merge("latency", "latency_", figures(found, rate, arguments.cores))
    draw(found, rate, arguments.cores, RESULTS / "latency.png")


if __name__ == "__main__":
    main()
