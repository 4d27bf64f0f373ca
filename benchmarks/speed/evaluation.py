"""Measure speed and memory of the metrics, of all-pairs scoring and of a second evaluation.

    python -m benchmarks.speed.evaluation [--scores 10000000] [--embeddings 10000]

Writes benchmarks/results/evaluation.json. Each figure is measured in a process of its own, so that
its peak memory is that of what it measures, Python and the scores included.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from benchmarks.figures import Figure, above, below, figure, write
from evaluation import metrics
from evaluation.metrics import Sweep, all_pairs
from evaluation.scoring import embeddings
from evaluation.scoring.cache import Cache
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials import manifest, sampling

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "manifest.csv"
MODEL = ROOT / "models" / "sayso.onnx"
SHARES = {"lopsided": 0.02, "balanced": 0.5}  # of targets; balanced is the worst case
TIMES = 5
DIMENSION = 192
CLIPS = 200
MB = 1e6

Scores = NDArray[np.float32]


def make_scores(count: int, share: float) -> tuple[Scores, Scores]:
    """Draw overlapping Gaussians, `share` of them targets, float32 as the service's scores."""
    chance = np.random.default_rng(0)
    targets = int(count * share)
    same = chance.standard_normal(targets, dtype=np.float32) + np.float32(3)
    return same, chance.standard_normal(count - targets, dtype=np.float32)


def measure_all(target: Scores, nontarget: Scores) -> float:
    """Compute all that a row of the report needs; return the interpolated EER."""
    sweep = Sweep.of(target, nontarget)
    for prior in (0.01, 0.05):
        metrics.min_dcf(sweep, prior)
        metrics.actual_dcf(sweep, prior)
        metrics.fnmr_at_fmr(sweep, prior)
    metrics.cllr(sweep)
    metrics.min_cllr(sweep)
    metrics.eer(sweep)
    metrics.det(sweep)
    return metrics.eer_interpolated(sweep)


def sklearn_eer(target: Scores, nontarget: Scores) -> float:
    truth = np.repeat([True, False], [len(target), len(nontarget)])
    scores = np.concatenate([target, nontarget])
    fmr, accepted, _ = roc_curve(truth, scores, drop_intermediate=False)
    return float(np.interp(0, fmr + accepted - 1, fmr))


def measure_metrics(count: int, name: str) -> list[Figure]:
    """Time the metrics in turn with scikit-learn's ROC on the same scores."""
    target, nontarget = make_scores(count, SHARES[name])
    own = measure_all(target, nontarget)
    peak_mb = _peak_mb()  # before scikit-learn has its turn
    apart = abs(own - sklearn_eer(target, nontarget))
    pairs = [
        [_seconds(partial(run, target, nontarget)) for run in (measure_all, sklearn_eer)]
        for _ in range(TIMES)
    ]
    times = [own for own, _ in pairs]
    ratios = [other / own for own, other in pairs]
    how = f"{count:,} made scores in float32, {SHARES[name]:.0%} of them targets"
    return [
        figure(f"metrics_{name}", times, "s", below(3.0), f"all figures of a report on {how}"),
        figure(f"metrics_{name}_peak", [peak_mb], "MB", below(1000.0), f"whole process, {how}"),
        figure(
            f"sklearn_roc_over_metrics_{name}",
            ratios,
            "times",
            above(2.0),
            f"roc_curve alone over all figures, in turn, {how}; their EER {apart:.1e} apart",
        ),
    ]


def measure_all_pairs(count: int, _: str) -> list[Figure]:
    """Compare the memory of all-pairs scoring with what the matrix of scores would take."""
    chance = np.random.default_rng(0)
    vectors = chance.standard_normal((count, DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    speakers = np.arange(count) // 10
    all_pairs.count_pairs(vectors[: 2 * all_pairs.BLOCK], speakers[: 2 * all_pairs.BLOCK])
    before_mb = _peak_mb()
    times = [_seconds(lambda: all_pairs.count_pairs(vectors, speakers)) for _ in range(TIMES)]
    grown = max(_peak_mb() - before_mb, 0.0) * MB / (4 * count**2)
    how = f"{count:,} embeddings of {DIMENSION}, {count * (count - 1) // 2:,} pairs"
    return [
        figure("all_pairs", times, "s", None, f"scored and counted, {how}"),
        figure(
            "all_pairs_memory_over_matrix",
            [grown],
            "times",
            below(0.1),
            f"growth after a first two blocks, {how}",
        ),
    ]


def measure_cache(_: int, __: str) -> list[Figure]:
    """Time the shipped model on real speech: a first run, and runs that find its embeddings
    cached."""
    if not (DATA.is_file() and MODEL.is_file()):
        return []
    clips = sampling.sample_balanced(manifest.read(DATA, "dev"), CLIPS)

    async def run(cache_file: Path) -> list[float]:
        async with SaysoModel.open(MODEL) as model:
            times = []
            for _ in range(TIMES + 1):
                with Cache.open(cache_file) as cache:
                    started = time.perf_counter()
                    await embeddings.embed(model, clips, cache)
                    times.append(time.perf_counter() - started)
            return times

    with tempfile.TemporaryDirectory() as folder:
        first, *later = asyncio.run(run(Path(folder) / "cache.sqlite"))
    how = f"{CLIPS} clips of ../shared/data by the shipped model, first run {first:.1f} s"
    ratios = [first / again for again in later]
    return [figure("first_run_over_later", ratios, "times", above(10.0), how)]


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", type=int, default=10_000_000)
    parser.add_argument("--embeddings", type=int, default=10_000)
    arguments = parser.parse_args()
    asked: list[tuple[Callable[[int, str], list[Figure]], int, str]] = [
        *((measure_metrics, arguments.scores, name) for name in SHARES),
        (measure_all_pairs, arguments.embeddings, ""),
        (measure_cache, 0, ""),
    ]
    figures = []
    for measure, size, name in asked:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            figures += process.apply(measure, (size, name))
    write("evaluation", figures)


if __name__ == "__main__":
    main()
