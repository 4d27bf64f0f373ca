"""Measure the models that ship and those that can be had on the same trials.

    sayso models get campplus --output build/campplus.onnx
    python -m benchmarks.accuracy.model_table --get build/campplus.onnx

Writes models/figures.json, which `sayso models list` shows, and from it the tables of
models/README.md and docs/learn/models.md. Without --get the pages are written again from the file
that is there.
Trials are every pair, both ways and within a corpus, of dev clips with more than 3 s of net speech,
evenly over the speakers; of the side that is tried, the first 3 s of net speech are heard.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import pages
from benchmarks.accuracy import systems
from benchmarks.accuracy.systems import POOLED, Contestant, SettingRow
from evaluation.scoring import baseline, cache, embeddings
from evaluation.scoring.cache import Cache
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials import manifest
from service.adoption.catalog import NAMES, Published
from service.audio.speech import VoiceActivity
from service.inference.session import Session

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "models" / "figures.json"
PAGES = (ROOT / "models" / "README.md", ROOT / "docs" / "learn" / "models.md")
BEGIN, END = "<!-- models: begin -->\n", "<!-- models: end -->\n"
SHIPPED = {"sayso": "Apache-2.0", "sayso-small": "Apache-2.0"}
SPEECH_S = 3.0
ROUNDS, RUNS = 7, 5
CONDITIONS: Mapping[tuple[str, bool], str] = {
    ("clean", False): "as recorded",
    ("telephone", False): "telephone heard",
    ("telephone", True): "two telephones",
    ("noisy", True): "two telephones, noise",
}
"""What a setting of `benchmarks.accuracy.systems` is called; the second word is cross-channel."""


async def measure(
    models: Mapping[str, Path], table: Path, clips: int, seed: int, replicates: int
) -> list[dict[str, Any]]:
    """Measure every model, by its name, on the same trials."""
    detector = baseline.MfccStatistics(VoiceActivity.open(), rate=16000, min_speech_s=0.5)
    every = manifest.read(table, "dev")
    with Cache.open(cache.default_path()) as kept:
        recorded = await embeddings.embed(detector, every, kept, label="net speech")
        chosen = systems.sample_clips(every, recorded.speech_s, long=clips, short=0, seed=seed)
        async with AsyncExitStack() as stack:
            contestants = [
                Contestant(name, await stack.enter_async_context(SaysoModel.open(path)))
                for name, path in models.items()
            ]
            rows = await systems.measure(
                contestants,
                [every[row] for row in chosen],
                recorded.speech_s[chosen],
                kept,
                reference=next(iter(models)),
                lengths_s=(SPEECH_S,),
                replicates=replicates,
                seed=seed,
            )
    return [describe(name, path, rows) for name, path in models.items()]


def describe(name: str, path: Path, rows: Sequence[SettingRow]) -> dict[str, Any]:
    """What the table says of a model, without its time."""
    shown = {
        CONDITIONS[key]: row
        for row in rows
        if (key := (row.setting.condition, row.setting.cross_channel)) in CONDITIONS
    }
    measured = {condition: row.figures[name][POOLED].eer for condition, row in shown.items()}
    return {
        "name": name,
        "licence": SHIPPED.get(name) or Published.read(name).licence,
        "size_bytes": path.stat().st_size,
        "eer": {
            condition: {
                "eer": round(measured[condition].value, 5),
                "interval": [round(end, 5) for end in _ends(measured[condition])],
            }
            for condition in CONDITIONS.values()
        },
        "less_the_first": {
            condition: {
                "eer": round(difference.second - difference.first, 5),
                "interval": [
                    round(difference.interval.low, 5),
                    round(difference.interval.high, 5),
                ],
            }
            for condition, row in shown.items()
            if (difference := row.differences.get(name))
        },
    }


def _ends(figure: Any) -> tuple[float, float]:
    return figure.interval.low, figure.interval.high


def time_windows(models: Mapping[str, Path]) -> dict[str, float]:
    """Milliseconds of one window of each model on one thread, in turn: the median of rounds."""
    sessions = {name: Session.open(path, device="cpu", threads=1) for name, path in models.items()}
    took_s: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            window = np.random.default_rng(0).normal(0, 0.1, (1, session.contract.window_samples))
            for _ in range(RUNS):
                began_s = time.process_time()
                session.run(window.astype(np.float32))
                took_s[name].append(time.process_time() - began_s)
    return {name: round(1000 * median(times), 1) for name, times in took_s.items()}


def format_table(document: Mapping[str, Any]) -> str:
    """The table of the pages."""
    header = ["model", "licence", "file", "one window", *CONDITIONS.values()]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for model in document["models"]:
        rates = (
            f"{100 * rate['eer']:.1f}% ({100 * rate['interval'][0]:.1f} to "
            f"{100 * rate['interval'][1]:.1f})"
            for rate in (model["eer"][condition] for condition in CONDITIONS.values())
        )
        cells = (
            f"`{model['name']}`",
            model["licence"],
            f"{model['size_bytes'] / 1e6:.1f} MB",
            f"{model['window_ms']:.0f} ms",
            *rates,
        )
        lines.append(f"| {' | '.join(cells)} |")
    first, *others = document["models"]
    paired = (
        f"`{model['name']}` less `{first['name']}` on the same trials, in points: "
        + ", ".join(
            f"{condition} {_format_points(model['less_the_first'][condition])}"
            for condition in CONDITIONS.values()
        )
        + "."
        for model in others
    )
    return "\n".join([*lines, "", document["trials"], "", *(f"- {line}" for line in paired), ""])


def _format_points(difference: Mapping[str, Any]) -> str:
    low, high = difference["interval"]
    return f"{100 * difference['eer']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def write_pages() -> None:
    """Write the table into every page that shows it."""
    table = format_table(json.loads(FIGURES.read_text(encoding="utf-8")))
    for page in PAGES:
        pages.write_section(page, BEGIN, END, table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--get", type=Path, help="campplus.onnx: measure, then write the pages")
    parser.add_argument("--manifest", type=Path, default=ROOT.parent / "shared/data/manifest.csv")
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.get:
        models = {name: ROOT / "models" / f"{name}.onnx" for name in SHIPPED}
        models |= dict.fromkeys(NAMES, arguments.get)
        measured = asyncio.run(
            measure(
                models,
                arguments.manifest,
                arguments.clips,
                arguments.seed,
                arguments.replicates,
            )
        )
        window_ms = time_windows(models)
        trials = (
            f"Equal error rates with 95% intervals: {arguments.clips} dev clips with more than "
            f"{SPEECH_S:g} s of net speech, of which the first {SPEECH_S:g} s are heard, every "
            "pair within a corpus. One window on one thread, by processor time."
        )
        for model in measured:
            model["window_ms"] = window_ms[model["name"]]
        document = {"trials": trials, "models": measured}
        FIGURES.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    write_pages()


if __name__ == "__main__":
    main()
