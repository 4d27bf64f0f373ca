"""Measure what makes a model fast on the CPU: each choice beside what the service does.

    python -m benchmarks.speed.cpu [--model models/sayso.onnx] [--label default] [--rounds 9]

Writes benchmarks/results/cpu.json, and keeps there what was measured of other labels. All that is
compared runs in turn, in another order each round; a ratio is of two times of one round. What takes
one thread is timed by what that thread has of its processor, so that other work on the machine
matters little; what takes several is timed by the clock, and wants an idle machine. `--manifest`
names recordings for what 8 and 16 bits cost in accuracy; without one that is left out.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.figures import Figure, below, figure, merge
from benchmarks.processes import processor_s, resident_mb
from service.contract import Contract
from service.inference.session import Session, _make_options
from service.settings import SHIPPED_MODEL
from tests.support.sayso_server import ROOT, SaysoServer

MANIFEST = ROOT.parent / "shared" / "data" / "manifest.csv"
BATCHES = (1, 2, 4, 8, 16)
COMPARED = (1, 8)  # batches that choices are compared on
CLIPS = 600
STARTS = 5
SETTLED_S = 0.05  # threads that spin have stopped
READY_S, RESIDENT_MB = 2.0, 300.0
MILLION = 1e6
FRONT_END = "/front_end/"

Windows = NDArray[np.float32]  # (batch, samples)
Change = Callable[[onnxruntime.SessionOptions], None]
Clock = Callable[[], float]
Jobs = Mapping[str, Callable[[], object]]


def set_level(name: str) -> Change:
    return lambda options: setattr(
        options,
        "graph_optimization_level",
        getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{name}"),
    )


def set_entry(key: str, value: str) -> Change:
    return lambda options: options.add_session_config_entry(key, value)


def set_options(**values: object) -> Change:
    def change(options: onnxruntime.SessionOptions) -> None:
        for name, value in values.items():
            setattr(options, name, value)

    return change


CHOICES: Mapping[str, Change] = {
    "unoptimised": set_level("DISABLE_ALL"),
    "basic_optimisations": set_level("ENABLE_BASIC"),
    "extended_optimisations": set_level("ENABLE_EXTENDED"),
    "no_arena": set_options(enable_cpu_mem_arena=False),
    "memory_pattern": set_options(enable_mem_pattern=True),
    "denormals_as_zero": set_entry("session.set_denormal_as_zero", "1"),
}
THREADED: Mapping[str, Change] = {
    "two_threads": set_options(intra_op_num_threads=2),
    "two_parallel_branches": set_options(
        execution_mode=onnxruntime.ExecutionMode.ORT_PARALLEL, inter_op_num_threads=2
    ),
}
SPINNING = "two_spinning_threads"


def load_session(
    model: Path, change: Change | None = None, *, threads: int = 1, spinning: bool = False
) -> onnxruntime.InferenceSession:
    """Load a model as the service does, on one thread, except for `change`."""
    options = _make_options(threads, spinning=spinning)
    if change is not None:
        change(options)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read_contract(session: onnxruntime.InferenceSession) -> Contract:
    return Contract.from_metadata(session.get_modelmeta().custom_metadata_map)


def make_noise(batch: int, samples: int) -> Windows:
    return np.random.default_rng(0).normal(0, 0.1, (batch, samples)).astype(np.float32)


def make_run(session: onnxruntime.InferenceSession, windows: Windows) -> Callable[[], object]:
    return lambda: session.run(["embedding"], {"waveform": windows})


def time_in_turn(
    jobs: Jobs, rounds: int, clock: Clock = time.thread_time, rest_s: float = 0.0
) -> dict[str, list[float]]:
    """Time each job in every round, each round beginning with another; before a job there is a
    rest."""
    names, taken = list(jobs), {name: list[float]() for name in jobs}
    for name in names:
        jobs[name]()
    for turn in range(rounds):
        for at in range(len(names)):
            name = names[(turn + at) % len(names)]
            time.sleep(rest_s)
            began_s = clock()
            jobs[name]()
            taken[name].append(clock() - began_s)
    return taken


def divide(taken: Sequence[float], base: Sequence[float]) -> list[float]:
    """Divide the times of each round."""
    return [one / other for one, other in zip(taken, base, strict=True)]


def measure_choices(model: Path, rounds: int) -> Iterator[Figure]:
    sessions = {"service": load_session(model)}
    sessions |= {name: load_session(model, change) for name, change in CHOICES.items()}
    samples = read_contract(sessions["service"]).window_samples
    for batch in COMPARED:
        windows = make_noise(batch, samples)
        taken = time_in_turn({name: make_run(s, windows) for name, s in sessions.items()}, rounds)
        for name in CHOICES:
            how = f"processor time of {batch} windows over the service's options, one thread"
            ratio = divide(taken[name], taken["service"])
            yield figure(f"{name}_batch_{batch}", ratio, "ratio", None, how)


def make_split_run(
    session: onnxruntime.InferenceSession, windows: Windows, pool: ThreadPoolExecutor
) -> Callable[[], object]:
    """Run two threads at once, half of the batch each."""
    calls = [make_run(session, half) for half in np.array_split(windows, 2)]
    return lambda: [call.result() for call in [pool.submit(call) for call in calls]]


def measure_threads(model: Path, rounds: int) -> Iterator[Figure]:
    """Compare one batch on two threads, and its halves on two sessions at once, with one thread."""
    one = load_session(model)
    sessions = {name: load_session(model, change) for name, change in THREADED.items()}
    sessions[SPINNING] = load_session(model, threads=2, spinning=True)
    samples = read_contract(one).window_samples
    with ThreadPoolExecutor(2) as pool:
        for batch in COMPARED:
            windows = make_noise(batch, samples)
            jobs = {name: make_run(session, windows) for name, session in sessions.items()}
            jobs["one"] = make_run(one, windows)
            if batch > 1:
                jobs["two_callers"] = make_split_run(one, windows, pool)
            taken = time_in_turn(jobs, rounds, time.perf_counter, SETTLED_S)
            for name in jobs.keys() - {"one"}:
                how = f"elapsed time of {batch} windows over that on one thread"
                ratio = divide(taken[name], taken["one"])
                yield figure(f"{name}_batch_{batch}", ratio, "ratio", None, how)


def measure_batches(model: Path, rounds: int) -> Iterator[Figure]:
    session = load_session(model)
    samples = read_contract(session).window_samples
    jobs = {str(batch): make_run(session, make_noise(batch, samples)) for batch in BATCHES}
    taken = time_in_turn(jobs, rounds)
    each_ms = [1e3 * one for one in taken["1"]]
    yield figure("window", each_ms, "ms", None, "processor time of one window alone")
    for batch in BATCHES[1:]:
        ratio = divide([one / batch for one in taken[str(batch)]], taken["1"])
        how = f"processor time of a window among {batch} over one alone"
        yield figure(f"window_among_{batch}", ratio, "ratio", None, how)


def measure_saved_graph(model: Path, rounds: int) -> Iterator[Figure]:
    """Compare loading a graph that was optimized before with optimizing it at every start."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"service": model, "onnx": Path(folder) / "m.onnx", "ort": Path(folder) / "m.ort"}
        for kind in ("onnx", "ort"):
            load_session(model, set_options(optimized_model_filepath=str(files[kind])))
        off = set_level("DISABLE_ALL")
        jobs: Jobs = {
            "service": lambda: load_session(model),
            "onnx": lambda: load_session(files["onnx"], off),
            "ort": lambda: load_session(files["ort"], off),
        }
        taken = time_in_turn(jobs, rounds)
    each_ms = [1e3 * one for one in taken["service"]]
    yield figure("load", each_ms, "ms", None, "processor time to load and optimise the graph")
    for kind in ("onnx", "ort"):
        how = f"of that, loading the optimised graph saved as .{kind}"
        yield figure(
            f"load_saved_{kind}", divide(taken[kind], taken["service"]), "ratio", None, how
        )


def measure_shares(model: Path, runs: int) -> dict[str, float]:
    """Measure shares of the time in kernels: the front end's, and that of each operator of the
    encoder."""
    with tempfile.TemporaryDirectory() as folder:
        change = set_options(enable_profiling=True, profile_file_prefix=f"{folder}/run")
        session = load_session(model, change)
        job = make_run(session, make_noise(1, read_contract(session).window_samples))
        for _ in range(runs):
            job()
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    taken: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event["name"].endswith("_kernel_time"):
            taken[event["name"], event["args"]["op_name"]].append(event["dur"])
    total: defaultdict[str, float] = defaultdict(float)
    for (name, operator), durations in taken.items():
        part = "front_end" if name.startswith(FRONT_END) else operator
        total[part] += statistics.median(durations)
    return {part: spent / sum(total.values()) for part, spent in total.items()}


def measure_profile(model: Path, rounds: int) -> Iterator[Figure]:
    found = [measure_shares(model, 20) for _ in range(max(2, rounds // 3))]
    parts = [part for part, share in found[0].items() if share >= 0.02]
    for part in sorted(parts, key=found[0].__getitem__, reverse=True):
        what = "the front end" if part == "front_end" else f"{part} in the encoder"
        each = [100 * one.get(part, 0.0) for one in found]
        yield figure(f"share_{part}", each, "%", None, f"of the time in kernels: {what}")


def measure_memory(model: Path) -> Iterator[Figure]:
    """Measure each choice in a process of its own that has run batches of every size."""
    script = (
        "import sys; from benchmarks.speed.cpu import measure_growth_mb as grow;"
        "print(grow(*sys.argv[1:]))"
    )
    for name in ("service", "no_arena", "memory_pattern"):
        command = [sys.executable, "-c", script, str(model), name]
        finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        how = f"what the model adds to a process by batches of 1 to {max(BATCHES)}, {name}"
        yield figure(f"memory_{name}", [float(finished.stdout)], "MB", None, how.replace("_", " "))


def measure_growth_mb(model: str, name: str) -> float:
    """Measure how much this process grows by running `model` on batches of every size."""
    before_mb = resident_mb(os.getpid())
    session = load_session(Path(model), CHOICES.get(name))
    samples = read_contract(session).window_samples
    for batch in (*BATCHES, *reversed(BATCHES)):
        make_run(session, make_noise(batch, samples))()
    return resident_mb(os.getpid()) - before_mb


def measure_variants(model: Path, rounds: int, table: Path | None) -> Iterator[Figure]:
    """Measure what 8 and 16 bits save, and what they cost."""
    from exporters.tuning import quantize  # noqa: PLC0415 - wants torch, and the rest does not

    with tempfile.TemporaryDirectory() as folder:
        files = {"service": model}
        for kind in ("int8", "fp16"):
            files[kind] = Path(folder) / f"{kind}.onnx"
            _, small = quantize.publish(model, kind, files[kind])
            how = f"one less the least cosine with the model itself, on {small.speech}"
            short = (1 - small.least) * MILLION
            yield figure(f"{kind}_cosine_short_of_1", [short], "millionths", None, how)
        sessions = {name: load_session(path) for name, path in files.items()}
        samples = read_contract(sessions["service"]).window_samples
        for batch in COMPARED:
            windows = make_noise(batch, samples)
            jobs = {name: make_run(session, windows) for name, session in sessions.items()}
            taken = time_in_turn(jobs, rounds)
            for kind in ("int8", "fp16"):
                how = f"processor time of {batch} windows over the model itself, one thread"
                ratio = divide(taken[kind], taken["service"])
                yield figure(f"{kind}_batch_{batch}", ratio, "ratio", None, how)
        if table is not None:
            yield from asyncio.run(measure_accuracy(files, table))


async def measure_accuracy(files: Mapping[str, Path], table: Path) -> list[Figure]:
    """Subtract the model's EER from that of each variant, on the same trials of the dev split."""
    from evaluation.metrics import comparison  # noqa: PLC0415 - wants more than the service's packages
    from evaluation.scoring import embeddings, scores  # noqa: PLC0415 - wants more than the service's packages
    from evaluation.scoring.cache import Cache  # noqa: PLC0415
    from evaluation.scoring.sayso_model import SaysoModel  # noqa: PLC0415
    from evaluation.trials import manifest, sampling, trials  # noqa: PLC0415 - wants more than the service's packages

    asked = trials.make_pairs(
        sampling.sample_balanced(manifest.read(table, "dev"), CLIPS), limit=1_000_000
    )
    scored = {}
    with tempfile.TemporaryDirectory() as folder, Cache.open(Path(folder) / "cache") as cache:
        for name, path in files.items():
            async with SaysoModel.open(path, device="cpu") as system:
                found = await embeddings.embed(system, asked.clips, cache, label=name)
            scored[name] = scores.score(asked, found)
    plain, figures = scored.pop("service"), []
    for name, other in scored.items():
        eer = comparison.compare(
            plain.measures.cosine,
            other.measures.cosine,
            plain.trials.target,
            plain.trials.sides(),
        )["EER"]
        change = 100 * (eer.second - eer.first)
        how = (
            f"EER {100 * eer.second:.2f}% less {100 * eer.first:.2f}% on {len(plain.trials)} "
            f"trials of {CLIPS} dev clips; the spread is the paired 95% interval"
        )
        limits = [round(100 * eer.interval.low, 3), round(100 * eer.interval.high, 3)]
        told = figure(f"{name}_eer_change", [change], "points", None, how)
        figures.append(told | {"spread": limits})
    return figures


def measure_start(model: Path) -> list[Figure]:
    """Time a start until the server answers, its files and compiled modules in the file cache."""
    ready_s, worked_s, held_mb = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        compiled = {"PYTHONPYCACHEPREFIX": f"{folder}/compiled", "PYTHONDONTWRITEBYTECODE": ""}
        with mock.patch.dict(os.environ, compiled):
            for _ in range(STARTS + 1):
                began_s = time.perf_counter()
                with SaysoServer(store=f"sqlite:///{folder}/sayso.db", model=model) as server:
                    ready_s.append(time.perf_counter() - began_s)
                    worked_s.append(processor_s(server.process.pid))
                    held_mb.append(resident_mb(server.process.pid))
    how = f"of {STARTS} starts of `sayso serve` on SQLite, modules compiled before"
    return [
        figure("start_ready", ready_s[1:], "s", below(READY_S), f"until it serves, {how}"),
        figure("start_processor", worked_s[1:], "s", None, f"processor time until then, {how}"),
        figure("start_resident", held_mb[1:], "MB", below(RESIDENT_MB), f"when it serves, {how}"),
    ]


def measure_all(model: Path, rounds: int, table: Path | None) -> Iterator[Figure]:
    Session.open(model, device="cpu")  # it is a model, or this says why not
    yield from measure_start(model)
    yield from measure_profile(model, rounds)
    yield from measure_batches(model, rounds)
    yield from measure_choices(model, rounds)
    yield from measure_threads(model, rounds)
    yield from measure_saved_graph(model, rounds)
    yield from measure_memory(model)
    yield from measure_variants(model, rounds, table)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--label", default="default")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--manifest", type=Path, default=MANIFEST)
    asked = parser.parse_args(arguments)
    table = asked.manifest if asked.manifest.is_file() else None
    figures = []
    for one in measure_all(asked.model.resolve(), asked.rounds, table):
        print(f"{one['name']:34} {one['value']:10g} {one['unit']:10} {one['spread']}", flush=True)
        figures.append(one | {"name": f"{asked.label}_{one['name']}"})
    merge("cpu", f"{asked.label}_", figures)


if __name__ == "__main__":
    main()
