"""Measure whether memory grows over many requests of any length, and how soon a server is ready.

    python -m benchmarks.speed.requests [--requests 100000] [--callers 8] [--starts 5]

Writes benchmarks/results/requests.json. One server answers `Verify` for clips of 0.1 to 10 s, each
of another length, and its resident memory, of which the session's arena is a part, is read after
every hundredth of them. A start is from executing `sayso serve` to the health service saying
SERVING, on files that the machine has read before.
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, below, figure, merge
from benchmarks.processes import resident_mb
from benchmarks.speed.clips import LONGEST_S, cut
from benchmarks.speed.soak import judge
from benchmarks.speed.streaming import VOICE, start_server
from benchmarks.speed.verifying import list_other_cores, send_in_turn, start_process
from service.settings import SHIPPED_MODEL
from tests.support.sayso_server import SaysoServer

SMALL = "small"
MODELS = {"default": SHIPPED_MODEL, SMALL: SHIPPED_MODEL.with_name("sayso-small.onnx")}
BRIEFEST_S = 0.1
PARTS = 100
READY_S = 2.0
SMALL_MB = 300.0

Samples = np.ndarray[tuple[int, int], np.dtype[np.float64]]


def draw_lengths_s(count: int, chance: np.random.Generator) -> list[float]:
    """Draw lengths, as many between 0.1 and 1 s as between 1 and 10 s."""
    exponents = chance.uniform(np.log(BRIEFEST_S), np.log(LONGEST_S), count)
    return [float(length) for length in np.exp(exponents)]


def sample_memory(model: Path, cores: int, requests: int, callers: int) -> Samples:
    """Sample seconds and resident MB `(PARTS + 1, 2)` of a server, before and after each part."""
    chance = np.random.default_rng(0)
    each = max(1, requests // PARTS)
    with start_server(model, cores) as running, start_process(list_other_cores(cores)) as crew:
        pid, began_s = running.process.pid, time.monotonic()
        samples = [(0.0, resident_mb(pid))]
        for _ in range(PARTS):
            sent = [clip.request(VOICE) for clip in cut(draw_lengths_s(each, chance), chance)]
            crew.submit(send_in_turn, running.address, sent, callers).result()
            samples.append((time.monotonic() - began_s, resident_mb(pid)))
    return np.array(samples)


def measure_memory(name: str, samples: Samples, requests: int) -> list[Figure]:
    """Judge memory as the soak does, and report it before, after a tenth, and at the end."""
    told = f"{requests} requests of 0.1 to 10 s to the {name} model"
    judgement, _ = judge(told, samples, Counter(verify=requests))
    how = f"resident memory of the server, {told}"
    before, tenth, after = samples[[0, len(samples) // 10, -1], 1].tolist()
    aim = below(SMALL_MB) if name == SMALL else None
    return [
        *(one for one in judgement if one["name"] in {"growth", "slope"}),
        figure("before", [before], "MB", None, f"{how}, before them"),
        figure("after_a_tenth", [tenth], "MB", None, f"{how}, after a tenth of them"),
        figure("after", [after], "MB", aim, f"{how}, after them"),
    ]


def measure_start(model: Path, cores: int) -> tuple[float, float]:
    """Measure the seconds until a server on these cores is ready, and its resident MB then."""
    with tempfile.TemporaryDirectory() as folder:
        running = SaysoServer(
            store=f"sqlite:///{folder}/sayso.db", model=model, threads=cores, log_level="warning"
        )
        began_s = time.monotonic()
        with running, running.client() as sayso:
            assert sayso.ready(), running.log
            return time.monotonic() - began_s, resident_mb(running.process.pid)


def measure_starts(name: str, model: Path, cores: int, starts: int) -> list[Figure]:
    """Measure some starts after a first one, which warms the file cache."""
    measure_start(model, cores)
    taken_s, held_mb = zip(*(measure_start(model, cores) for _ in range(starts)), strict=True)
    how = f"{name} model, {starts} starts on a warm file cache"
    aim = below(SMALL_MB) if name == SMALL else None
    return [
        figure("ready", taken_s, "s", below(READY_S), f"from executing to SERVING, {how}"),
        figure("ready_resident", held_mb, "MB", aim, f"resident memory when ready, {how}"),
    ]


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--label", choices=MODELS, action="append", help="all unless said")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--requests", type=int, default=100_000, help="to each model's server")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--starts", type=int, default=5)
    arguments = parser.parse_args(given)
    for name in arguments.label or MODELS:
        model, prefix = MODELS[name], f"requests_{name}_"
        figures = measure_starts(name, model, arguments.cores, arguments.starts)
        samples = sample_memory(model, arguments.cores, arguments.requests, arguments.callers)
        figures += measure_memory(name, samples, arguments.requests // PARTS * PARTS)
        merge("requests", prefix, [one | {"name": prefix + one["name"]} for one in figures])


if __name__ == "__main__":
    main()
