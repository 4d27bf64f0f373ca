"""Check that a model agrees with the CPU on a GPU, and measure how fast it is there.

    python -m benchmarks.speed.gpu_check [--model models/sayso.onnx] [--rounds 5] [--require]

With a GPU, writes benchmarks/results/gpu.json, and exits with 1 if the embeddings disagree. Without
one, says what it skipped and why, and exits with 0, or with 1 under `--require`. Needs no
recordings: the voices are synthesized. To hold calls on the GPU with a real server:
`python -m benchmarks.speed.streaming --label gpu`.
"""

import argparse
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.figures import Figure, above, below, figure, write
from benchmarks.processes import resident_mb
from exporters.voices import synthesize_voice
from service.errors import StartupError
from service.inference import cuda
from service.inference.session import Device, Session
from service.settings import SHIPPED_MODEL

CHECKS = (
    "provider",
    "parity with the CPU",
    "windows a second by batch size",
    "streams held",
    "memory",
)
LEAST_COSINE = 0.9999
BATCHES = (1, 2, 4, 8, 16, 32, 64)
CPU_BATCH = 8
VOICES = 8
RUNS = 20
MILLION = 1e6

Windows = NDArray[np.float32]  # (batch, samples)


@dataclass(frozen=True, slots=True)
class Mode:
    """A way to run the model on the GPU."""

    name: str
    device: Device
    graphs: bool

    def open(self, model: Path) -> Session:
        return Session.open(
            model, device=self.device, cuda_graphs=self.graphs, max_batch=max(BATCHES)
        )


MODES = (
    Mode("cuda", "cuda", graphs=False),
    Mode("cuda_graphs", "cuda", graphs=True),
    Mode("tensorrt", "tensorrt", graphs=False),
)


def explain_unavailable() -> str:
    """Say why there is no CUDA here; empty if there is."""
    if cuda.is_available():
        return ""
    if cuda.CUDA not in (has := onnxruntime.get_available_providers()):
        return f"this ONNX Runtime is not built for CUDA, it has {', '.join(has)}"
    return "this machine has no CUDA device: there is no /dev/nvidia0 and no /dev/dxg"


@cache
def make_voices(count: int, rate: int, samples: int) -> Windows:
    return np.stack([synthesize_voice(seed, rate=rate, samples=samples) for seed in range(count)])


def least_cosine(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Find the smallest cosine between rows of two `(n, dim)`; -1 if a number is not finite."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore"):
        cosines = (a * b).sum(axis=1) / norms
    return float(np.where(np.isfinite(cosines), cosines, -1.0).min())


def measure_parity(session: Session, reference: Session) -> float:
    """Find the least cosine between two sessions over synthesized voices, alone and in batches.

    Each length runs twice, because a captured graph is replayed only from its second run on.
    """
    contract, found = reference.contract, []
    for samples in (contract.window_samples, *contract.short_windows):
        windows = make_voices(VOICES, contract.sample_rate, samples)
        expected = reference.run(windows)
        for size in (1, 3, VOICES, 1, 3, VOICES):
            parts = [session.run(windows[at : at + size]) for at in range(0, VOICES, size)]
            found.append(least_cosine(np.concatenate(parts), expected))
    return min(found)


def measure_rates(session: Session, batch: int, rounds: int, runs: int) -> list[float]:
    """Measure windows a second in each round of runs, without the first round."""
    chance, found = np.random.default_rng(0), []
    noise = chance.normal(0, 0.1, (batch, session.contract.window_samples)).astype(np.float32)
    for _ in range(rounds + 1):
        began_s = time.perf_counter()
        for _ in range(runs):
            session.run(noise)
        found.append(runs * batch / (time.perf_counter() - began_s))
    return found[1:]


def device_mb() -> float | None:
    """Read the memory in use on the first GPU, by all processes."""
    asked = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        reply = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        return float(reply) * 2**20 / 1e6
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


def measure_speed(name: str, session: Session, rounds: int) -> Iterator[Figure]:
    contract, best = session.contract, [0.0]
    for batch in BATCHES:
        found = measure_rates(session, batch, rounds, RUNS)
        best = max(best, found, key=np.median)
        how = f"windows of {contract.window_s:g} s, {batch} at a time, copies to and fro included"
        yield figure(f"{name}_batch_{batch}", found, "windows/s", None, how)
    streams = [rate * contract.hop_s for rate in best]
    how = f"the best of these over one window every {contract.hop_s:g} s of unbroken speech"
    yield figure(f"{name}_streams_allowed", streams, "calls", None, how)


def measure_memory(name: str, before_mb: float | None) -> Iterator[Figure]:
    how = "of this process, the CPU's session beside it"
    yield figure(f"{name}_resident", [resident_mb(os.getpid())], "MB", None, how)
    if before_mb is None or (now_mb := device_mb()) is None:
        print(f"skipped memory of the GPU, {name}: nvidia-smi does not tell")
    else:
        how = "on the GPU, beyond what was in use before"
        yield figure(f"{name}_device_memory", [now_mb - before_mb], "MB", None, how)


def require_valid(mode: Mode, model: Path, reference: Session, rounds: int) -> list[Figure]:
    """Measure a mode; if it is unavailable, return no figures and say why."""
    before_mb = device_mb()
    try:
        session = mode.open(model)
    except StartupError as error:
        print(f"skipped {mode.name}: {error}")
        return []
    print(f"{mode.name}: {session.provider}, {session.contract.model_id}")
    short = (1 - measure_parity(session, reference)) * MILLION
    how = "one less the least cosine with the CPU, of made voices, alone and in batches"
    aim = below(round((1 - LEAST_COSINE) * MILLION, 3))
    return [
        figure(f"{mode.name}_cosine_short_of_1", [short], "millionths", aim, how),
        *measure_speed(mode.name, session, rounds),
        *measure_memory(mode.name, before_mb),
    ]


def compare_with_cpu(found: Mapping[str, list[Figure]], cpu: list[float]) -> list[Figure]:
    """Compare each mode, at its best batch, with the CPU."""
    figures = []
    for name, each in found.items():
        best = max((one for one in each if "_batch_" in one["name"]), key=lambda one: one["value"])
        ratio = [best["value"] / rate for rate in cpu]
        how = f"at its best batch over the CPU's, {CPU_BATCH} windows at a time on all cores"
        figures.append(figure(f"{name}_over_cpu", ratio, "ratio", above(1.0), how))
    return figures


def check(model: Path, rounds: int) -> int:
    """Check every mode on a machine with a GPU; return the exit status."""
    reference = Session.open(model, device="cpu")
    found = {mode.name: require_valid(mode, model, reference, rounds) for mode in MODES}
    found = {name: figures for name, figures in found.items() if figures}
    if not found:
        return skip("no provider of this ONNX Runtime works here", require=True)
    cpu = measure_rates(reference, CPU_BATCH, rounds, runs=2)
    figures = [one for each in found.values() for one in each]
    write("gpu", [*figures, *compare_with_cpu(found, cpu)])
    wrong = [one["name"] for one in figures if one["holds"] is False]
    if wrong:
        print(f"wrong: {', '.join(wrong)}")
    return int(bool(wrong))


def skip(why: str, *, require: bool) -> int:
    for name in CHECKS:
        print(f"skipped {name}: {why}")
    return int(require)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--require", action="store_true", help="a machine without CUDA is an error")
    asked = parser.parse_args(arguments)
    if why := explain_unavailable():
        return skip(why, require=asked.require)
    return check(asked.model, asked.rounds)


if __name__ == "__main__":
    raise SystemExit(main())
