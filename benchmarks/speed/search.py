"""Measure how long a search over a million voices takes, beside what memory bandwidth allows.

    python -m benchmarks.speed.search [--voices 1000000] [--searches 100]

Writes benchmarks/results/search.json. A search reads every voice once, so the floor is their bytes
in float32 over the speed at which this machine copies memory, measured in turn with the searches;
8-bit codes read less than that.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Figure, below, figure, write
from service.audio.quality import Quality
from service.calls.identification import Identifier
from service.calls.ranking import Ranking
from service.calls.search import Voices
from service.contract import Calibration, Contract
from service.decisions.policy import Policy, QualityGate, ThresholdSource
from service.decisions.scoring import l2_normalize
from service.inference.embedder import Utterance
from service.speakers.lifecycle import Retention
from service.store import Group, Speaker, SpeakerState, Voiceprint, open_store

DIMENSION = 192
TARGET_MS = 50.0
TOP = 10
COPIED_BYTES = 64 * 2**20
STORED = 1000
RANKING = Ranking(offset=-12.0, offset_speech=0.3, slope=20.0, slope_speech=0.5)

Vectors = NDArray[np.float32]


def draw_voices(count: int, chance: np.random.Generator) -> Iterator[Vectors]:
    """Draw `count` directions at random, 10,000 at a time."""
    for start in range(0, count, 10_000):
        size = min(10_000, count - start)
        yield l2_normalize(chance.standard_normal((size, DIMENSION), dtype=np.float32))


def draw_clustered_voices(count: int, chance: np.random.Generator) -> Iterator[Vectors]:
    """Draw voices as crowded as they get: a hundred clusters, within which cosines are about
    0.9."""
    (centres,) = draw_voices(100, chance)
    for noise in draw_voices(count, chance):
        near = centres[chance.integers(0, 100, len(noise))] + np.float32(0.33) * noise
        yield l2_normalize(near)


def fill(parts: Iterator[Vectors], chance: np.random.Generator) -> Voices:
    voices = Voices(DIMENSION)
    slot = 0
    for part in parts:
        for vector, log_speech in zip(part, chance.uniform(1.5, 4, len(part)), strict=True):
            voices.put(slot, str(slot), vector, float(log_speech))
            slot += 1
    return voices


def measure_speed(voices: Voices, searches: int, chance: np.random.Generator) -> list[Figure]:
    """Time searches, products in float32 and copies, in turn."""
    source = np.ones(COPIED_BYTES // 4, np.float32)
    target = np.zeros_like(source)
    rounds = []
    for query in next(draw_voices(searches + 1, chance)):
        began = time.perf_counter()
        voices.find_best(query, RANKING, TOP)
        searched = time.perf_counter()
        for block in voices._blocks:
            np.dot(block.voices, query)
        multiplied = time.perf_counter()
        np.copyto(target, source)
        copied = time.perf_counter()
        rounds.append((searched - began, multiplied - searched, copied - multiplied))
    search_ms, products_ms, copy_ms = np.array(rounds[1:]).T * 1e3  # (searches,) each
    median_ms = float(np.median(search_ms))
    bytes_ms = 2 * COPIED_BYTES / float(np.median(copy_ms))
    floor_ms = len(voices) * DIMENSION * 4 / bytes_ms
    how = f"{searches} searches of {len(voices)} voices of {DIMENSION} dimensions, top {TOP}"
    return [
        figure("search_median", search_ms.tolist(), "ms", below(TARGET_MS), how),
        figure("search_p99", [float(np.percentile(search_ms, 99))], "ms", None, how),
        figure("search_least", [float(search_ms.min())], "ms", None, how),
        figure(
            "search_float32_products",
            products_ms.tolist(),
            "ms",
            None,
            "the products alone of the same queries with all voices in float32, in turn",
        ),
        figure(
            "search_over_float32_products",
            (search_ms / products_ms).tolist(),
            "ratio",
            below(1.0),
            "a search over the float32 products of its own query",
        ),
        figure(
            "search_memory_floor",
            [floor_ms],
            "ms",
            None,
            f"float32 voices over the speed of copies made in turn, {bytes_ms / 1e6:.1f} GB/s",
        ),
        figure(
            "search_over_memory_floor",
            [median_ms / floor_ms],
            "ratio",
            None,
            "median over that floor",
        ),
    ]


def measure_exactness(
    name: str, voices: Voices, parts: Iterator[Vectors], queries: Vectors
) -> Figure:
    """Count searches whose top voices differ from those of a matrix product over all, in
    float32."""
    matrix = np.concatenate(list(parts))
    cosine = Ranking(offset=0.0, offset_speech=0.0, slope=1.0, slope_speech=0.0)
    same = 0
    for query in queries:
        scores = matrix @ query
        least = np.sort(scores)[-TOP]
        found = [int(hit.speaker_id) for hit in voices.find_best(query, cosine, TOP)]
        same += len(set(found)) == TOP and bool((scores[found] >= least - 1e-6).all())
    how = f"of {len(queries)} searches of {len(matrix)} voices, the top {TOP} of brute force missed"
    return figure(f"search_inexact_{name}", [len(queries) - same], "searches", below(0), how)


async def measure_store(chance: np.random.Generator) -> list[Figure]:
    """Time a whole identification, and the first read of a group, on SQLite."""
    contract = Contract(
        model_id="m",
        sample_rate=16000,
        window_samples=32000,
        hop_samples=16000,
        min_speech_samples=8000,
        dimension=DIMENSION,
        calibration=Calibration(-12.0, {"cosine": 20.0}, ((0.1, 0.0), (0.01, 3.0)), "made"),
    )
    policy = Policy(0.01, ThresholdSource.REQUEST, QualityGate(1.0, 0.0, 0.1))
    (vectors,) = draw_voices(STORED, chance)
    quality = Quality(4.0, 5.0, snr_db=20.0, clipping=0.0, peak_dbfs=-3.0)
    utterance = Utterance(vectors[0], quality, windows=1)
    with tempfile.TemporaryDirectory() as folder:
        async with (
            open_store(f"sqlite:///{folder}/voices.db", timeout_s=10) as store,
            Identifier(store, contract, policy=policy, retention=Retention()) as identifier,
        ):
            for number, vector in enumerate(vectors):
                voiceprint = Voiceprint("m", vector[None, :], np.ones(1, np.float32), 0.0)
                await store.put(
                    Speaker("t", str(number), SpeakerState.ENROLLED, 0.0, 0.0, {"m": voiceprint}),
                    expected_etag=None,
                )
            await store.groups.create("t", Group("all", "", 0.0))
            await store.groups.add("t", "all", [str(number) for number in range(STORED)])
            began = time.perf_counter()
            await identifier.prepare("t", ["all"])
            rate = STORED / (time.perf_counter() - began)
            taken_ms = []
            for _ in range(50):
                began = time.perf_counter()
                await identifier.identify("t", "all", utterance, policy, 1)
                taken_ms.append((time.perf_counter() - began) * 1e3)
    how = f"a group of {STORED} on SQLite"
    steps = f"{how}: version check, search, candidates read again"
    return [
        figure("search_first_read", [rate], "voices/s", None, how),
        figure("search_identify", taken_ms, "ms", None, steps),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voices", type=int, default=1_000_000)
    parser.add_argument("--searches", type=int, default=100)
    arguments = parser.parse_args()
    chance = np.random.default_rng(0)
    figures = []
    for name, made in (("random", draw_voices), ("clustered", draw_clustered_voices)):
        count = arguments.voices // 10
        voices = fill(made(count, np.random.default_rng(1)), chance)
        (queries,) = draw_voices(10, chance)
        near = next(made(count, np.random.default_rng(1)))[:10]
        parts = made(count, np.random.default_rng(1))
        figures.append(measure_exactness(name, voices, parts, np.concatenate([queries, near])))
    figures += asyncio.run(measure_store(chance))
    voices = fill(draw_voices(arguments.voices, chance), chance)
    figures = measure_speed(voices, arguments.searches, chance) + figures
    write("search", figures)


if __name__ == "__main__":
    main()
