"""Measure `sayso tune` on simulated operators, one fixed line each.

    python -m benchmarks.accuracy.tuned_lines MANIFEST [MODEL ...] [--lines landline,mobile]

Each model is tuned to each operator. Figures are on speakers that cohort, calibration and
threshold were not fitted on; a centre, which no contract has, is measured beside them.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures, pages
from benchmarks.accuracy.operator_lines import CALLERS, LINES, Callers, make_operator
from benchmarks.figures import Figure, below
from evaluation import metrics
from evaluation.metrics import Sweep
from evaluation.scoring import embeddings, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials.trials import make_pairs
from evaluation.tuning import recordings
from evaluation.tuning.tune import Request, Tuned, tune
from service.decisions.scoring import l2_normalize
from service.settings import SHIPPED_MODEL

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "learn" / "tuning.md"
BUILD = ROOT / "build" / "tune"
WANTED_RATIO = 0.75
NAME = "tune"


def name_figures(model: Path, callers: Callers, line: str) -> str:
    """How the names of the figures of one model and operator begin."""
    return "_".join((NAME, model.stem, callers.corpus, line))


def measure(model: Path, callers: Callers, line: str, manifest: Path) -> list[Figure]:
    """Tune to one operator, and describe what came of it."""
    cache = BUILD / "embeddings.sqlite"
    tuned = asyncio.run(tune(Request(model, manifest, cache=cache)))
    told = tuned.document
    centred = asyncio.run(measure_centred(model, manifest, cache))
    prefix = name_figures(model, callers, line)
    where = f"{callers.corpus} over one {line}, {told['trials']['speakers']} speakers, {model.stem}"
    found = [
        _percent(f"{prefix}_eer_before", told["before"].eer, f"EER as the model is; {where}"),
        _percent(f"{prefix}_eer_after", _after(told).eer, f"EER tuned, {_kept(tuned)}; {where}"),
        figures.figure(
            f"{prefix}_eer_ratio",
            [_after(told).eer.value / told["before"].eer.value],
            "times",
            below(WANTED_RATIO),
            f"EER tuned over EER as the model is{_interval(told)}; {where}",
        ),
        figures.figure(
            f"{prefix}_eer_centred",
            [100 * centred],
            "%",
            None,
            f"EER of cosines less the mean of the unlabelled calls; {where}",
        ),
        *(
            _percent(f"{prefix}_fmr_{when}", rates.fmr, f"impostors accepted, 1% promised; {where}")
            for when, rates in (("before", told["before"]), ("after", _after(told)))
            if rates.fmr is not None
        ),
    ]
    return [*found, *_rejected(prefix, told, where)]


def _rejected(prefix: str, told: dict[str, Any], where: str) -> list[Figure]:
    how = f"genuine callers rejected if exactly 1% of impostors were accepted; {where}"
    return [
        figures.figure(f"{prefix}_fnmr_{when}", [100 * rates.fnmr_at_promise], "%", None, how)
        for when, rates in (("before", told["before"]), ("after", _after(told)))
    ]


def _after(told: dict[str, Any]) -> Any:
    return told["after"] or told["before"]


def _kept(tuned: Tuned) -> str:
    return ", ".join(tuned.document["kept"]) or "nothing kept"


def _interval(told: dict[str, Any]) -> str:
    if told["difference"] is None:
        return ""
    low, high = told["difference"].interval.low, told["difference"].interval.high
    return f", difference {100 * low:+.2f} to {100 * high:+.2f} points"


def _percent(name: str, rate: Any, how: str) -> Figure:
    """A rate in percent, with its interval as the spread."""
    made = figures.figure(name, [100 * rate.value], "%", None, how)
    ends = (rate.interval.low, rate.interval.high)
    return {**made, "spread": [round(100 * end, 3) for end in ends]}


async def measure_centred(model: Path, manifest: Path, path: Path) -> float:
    """The EER of cosines of labelled recordings after subtracting the unlabelled ones' mean."""
    found = recordings.read(manifest)
    with Cache.open(path) as cache:
        async with SaysoModel.open(model) as system:
            known = await embeddings.embed(system, found.labelled, cache, label="labelled")
            others = await embeddings.embed(system, found.unlabelled, cache, label="unlabelled")
    centre = others.vectors[others.acquired].mean(axis=0)
    vectors = l2_normalize(known.vectors - centre)
    pairs = make_pairs(found.labelled, limit=1_000_000)
    pairs = pairs.select(known.acquired[pairs.enrol] & known.acquired[pairs.test])
    cosine = scores.measure_cosines(vectors, vectors, pairs.enrol, pairs.test)
    target: np.ndarray[Any, np.dtype[np.bool_]] = pairs.target
    return metrics.eer(Sweep.of(cosine[target], cosine[~target]))


def render_table(found: Sequence[Figure]) -> str:
    """The table of docs/learn/tuning.md: a row for each model and operator, in percent."""
    values = {one["name"]: f"{one['value']:.1f}" for one in found}
    rows = dict.fromkeys(
        name.removesuffix(suffix) for name in values if name.endswith(suffix := "_eer_before")
    )
    lines = [
        "| model and line | EER | tuned | centered | impostors accepted, 1% promised | tuned |"
        " rejected at exactly 1% | tuned |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        columns = ("eer_before", "eer_after", "eer_centred", "fmr_before", "fmr_after")
        cells = [values.get(f"{row}_{one}", "–") for one in (*columns, "fnmr_before", "fnmr_after")]
        title = row.removeprefix(f"{NAME}_").replace("_", " ")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--lines", default=",".join(LINES))
    parser.add_argument("--corpora", default=",".join(callers.corpus for callers in CALLERS))
    given = parser.parse_args(arguments)
    for model in given.models or [SHIPPED_MODEL]:
        for callers in CALLERS:
            if callers.corpus not in given.corpora.split(","):
                continue
            for line in given.lines.split(","):
                folder = BUILD / f"{callers.corpus}-{line}"
                manifest = make_operator(given.manifest, callers, line, folder)
                found = measure(model, callers, line, manifest)
                figures.merge(NAME, name_figures(model, callers, line), found)
    found = json.loads((figures.RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))
    pages.write_measured(PAGE, render_table(found))


if __name__ == "__main__":
    main()
