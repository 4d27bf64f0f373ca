"""Measure countermeasures on the dev split of `sayso-train spoofs`, and rewrite the table of
docs/security/spoofing.md and benchmarks/results/spoofing.json.

    sayso-train spoofs ../shared/data/manifest.csv --output spoofs --splits train,dev
    python -m benchmarks.accuracy.spoofing spoofs/manifest.csv ours=countermeasure.onnx

Each clip is heard as recorded and through a telephone line drawn for it. The alarm's threshold is
set on half of the speakers, at 1% of their bona fide clips as recorded and 2% by telephone or less,
and judged on the other half. The tandem is with the shipped speaker model: enrolled by two bona
fide clips, claimed by the speaker's others, by other speakers of the corpus and by the clips made
of the speaker's.
"""

import argparse
import asyncio
import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import figures, pages
from evaluation.experiments import spoofing
from evaluation.experiments.spoofing import Findings
from evaluation.scoring import embeddings
from evaluation.scoring.cache import Cache, default_path
from evaluation.scoring.countermeasure import CHANNELS, LINE, RECORDED, Countermeasure, score_clips
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials import manifest, spoof_keys
from evaluation.trials.spoof_keys import NONTARGET, SPOOF, TARGET, Comparison, KeyedClip
from service.settings import SHIPPED_MODEL
from training.spoofs.corpus import BONA_FIDE
from training.spoofs.generators import GENERATORS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security" / "spoofing.md"
SPLIT = "dev"
ALARM_SHARES = {RECORDED: 0.01, LINE: 0.02}
ENROLLED = 2
IMPOSTORS = 10
SECONDS = (1.0, 2.0, 4.0)
THINNED = 3  # every third clip shows what more seconds are worth
REPLICATES = 200
WINDOW_S = 3.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A countermeasure's findings by channel, and its EER of all attacks by channel and seconds.

    `wideband` is as recorded with a threshold for that alone, of no use by telephone.
    """

    name: str
    wideband: Findings
    findings: Mapping[str, Findings]
    by_seconds: Mapping[tuple[str, float], float]


def list_unseen(attacks: Sequence[str]) -> list[str]:
    """The attacks that `sayso-train` learns nothing from."""
    return [attack for attack in attacks if GENERATORS[attack].held_out]


async def compare(path: Path) -> list[Comparison]:
    """Cosines of every clip with the speakers that it claims to be, by the shipped model."""
    clips = manifest.read(path, SPLIT)
    async with SaysoModel.open(SHIPPED_MODEL, device="cpu") as model:
        with Cache.open(default_path()) as cache:
            voices = await embeddings.embed(model, clips, cache)
    vectors = {
        clip.name: vector
        for clip, vector, acquired in zip(clips, voices.vectors, voices.acquired, strict=True)
        if acquired
    }
    return list(make_comparisons(path, vectors))


def make_comparisons(
    path: Path, vectors: Mapping[str, np.ndarray], seed: int = 0
) -> Iterator[Comparison]:
    """Compare the clips of a manifest that have vectors; a spoofed clip whose source is enrolled
    is left out, as it would be the same recording twice."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == SPLIT]
    rows = [row for row in rows if row["path"] in vectors]
    bona_fide = defaultdict(list)
    for row in rows:
        if row["attack"] == BONA_FIDE:
            bona_fide[row["corpus"], row["speaker"]].append(row)
    enrolled = {who: own[:ENROLLED] for who, own in bona_fide.items() if len(own) > ENROLLED}
    voiceprints = {
        who: np.mean([vectors[row["path"]] for row in own], axis=0) for who, own in enrolled.items()
    }
    used = {(row["path"], row["source"]) for own in enrolled.values() for row in own}
    paths, sources = ({pair[place] for pair in used} for place in (0, 1))
    rng = np.random.default_rng(seed)

    def score(who: tuple[str, str], row: Mapping[str, str], truth: str) -> Comparison:
        one, other = voiceprints[who], vectors[row["path"]]
        cosine = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
        return Comparison("/".join(who), row["path"], truth, cosine)

    for row in rows:
        who = (row["corpus"], row["speaker"])
        if row["attack"] != BONA_FIDE:
            if who in voiceprints and row["source"] not in sources:
                yield score(who, row, SPOOF)
            continue
        if row["path"] in paths:
            continue
        if who in voiceprints:
            yield score(who, row, TARGET)
        others = [other for other in voiceprints if other[0] == who[0] and other != who]
        for place in rng.permutation(len(others))[:IMPOSTORS]:
            yield score(others[place], row, NONTARGET)


def measure(
    name: str, file: Path, clips: Sequence[KeyedClip], folder: Path, compared: Sequence[Comparison]
) -> Measured:
    model = Countermeasure.open(file, window_s=WINDOW_S)
    scores = {channel: score_clips(model, clips, folder, channel=channel) for channel in CHANNELS}
    thresholds = spoofing.cross_fit_thresholds(
        clips, list(scores.values()), list(ALARM_SHARES.values())
    )
    wideband = spoofing.cross_fit_thresholds(clips, [scores[RECORDED]], [ALARM_SHARES[RECORDED]])
    as_recorded = spoofing.measure(
        clips, scores[RECORDED], thresholds=wideband, replicates=0, seed=0
    )
    found = {
        channel: spoofing.measure(
            clips, scores[channel], compared,
            thresholds=thresholds, replicates=REPLICATES, seed=0,
        )
        for channel in CHANNELS
    }  # fmt: skip
    by_seconds = {}
    some = clips[::THINNED]
    for channel in CHANNELS:
        for heard_s in SECONDS:
            heard = score_clips(model, some, folder, channel=channel, seconds=heard_s)
            rows = spoofing.measure(some, heard, thresholds=thresholds, replicates=0, seed=0)
            by_seconds[channel, heard_s] = rows.attacks[0].figures.eer
    return Measured(name, as_recorded, found, by_seconds)


def write_page(measured: Sequence[Measured], clips: Sequence[KeyedClip]) -> str:
    """The measured part of the page."""
    bona_fide = [clip for clip in clips if clip.bona_fide]
    lines = [
        f"{len(bona_fide):,} bona fide clips of {len({c.speaker for c in bona_fide})} dev speakers"
        f" against {len(clips) - len(bona_fide):,} spoofed ones, none of whose speakers were"
        " learned from.",
    ]
    for one in measured:
        lines += ["", f"### {one.name}", "", *_write_attacks(one)]
        lines += ["", *_write_alarms(one), "", *_write_rest(one)]
    return "\n".join(lines) + "\n"


def _write_attacks(one: Measured) -> Iterator[str]:
    yield (
        "| attack | kind | learned | clips | EER recorded | EER telephone | missed recorded |"
        " missed telephone | missed recorded, wideband threshold |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    recorded, line = (one.findings[channel].attacks for channel in (RECORDED, LINE))
    for first, second, third in zip(recorded, line, one.wideband.attacks, strict=True):
        kind, learned = "", ""
        if first.attack in GENERATORS:
            generator = GENERATORS[first.attack]
            kind, learned = generator.kind, "no" if generator.held_out else "yes"
        cells = [first.attack, kind, learned, str(first.spoofed)]
        cells += [_with_interval(row.figures.eer, row.intervals["eer"]) for row in (first, second)]
        cells += [f"{row.missed:.0%}" for row in (first, second, third)]
        yield f"| {' | '.join(cells)} |"


def _write_alarms(one: Measured) -> Iterator[str]:
    yield "| bona fide | clips | speakers | false alarms recorded | false alarms telephone |"
    yield "|---|---|---|---|---|"
    recorded, line = (one.findings[channel].alarms for channel in (RECORDED, LINE))
    for first, second in zip(recorded, line, strict=True):
        cells = [f"{first.group} {first.value}".strip(), str(first.clips), str(first.speakers)]
        cells += [_with_interval(row.false_alarms, row.interval) for row in (first, second)]
        yield f"| {' | '.join(cells)} |"


def _write_rest(one: Measured) -> Iterator[str]:
    yield "| | recorded | telephone |"
    yield "|---|---|---|"
    by_channel = [one.findings[channel] for channel in (RECORDED, LINE)]
    for name in ("min_dcf", "actual_dcf"):
        cells = [
            f"{getattr(found.attacks[0].figures, name):.3f}"
            f" ({found.attacks[0].intervals[name][0]:.3f} to"
            f" {found.attacks[0].intervals[name][1]:.3f})"
            for found in by_channel
        ]
        yield f"| {name.replace('_dcf', ' DCF').replace('min', 'minimum')} | {' | '.join(cells)} |"
    tandems = [found.tandem.figures for found in by_channel if found.tandem is not None]
    for name in tandems[0] if tandems else ():
        cells = [
            f"{value:.3f} ({low:.3f} to {high:.3f})"
            for low, value, high in (tandem[name] for tandem in tandems)
        ]
        yield f"| {name} | {' | '.join(cells)} |"
    for heard_s in SECONDS:
        cells = [f"{one.by_seconds[channel, heard_s]:.1%}" for channel in (RECORDED, LINE)]
        yield f"| EER of the first {heard_s:g} s, a third of the clips | {' | '.join(cells)} |"


def _with_interval(value: float, bounds: tuple[float, float]) -> str:
    return f"{value:.1%} ({bounds[0]:.1%} to {bounds[1]:.1%})"


def list_figures(one: Measured) -> Iterator[figures.Figure]:
    """False alarms with their targets, and the EER of all attacks and of unseen ones."""
    how = "dev speakers, thresholds of the other half of them; benchmarks.accuracy.spoofing"
    for channel, target in ALARM_SHARES.items():
        found = one.findings[channel]
        alarms = found.alarms[0].false_alarms
        prefix = f"spoofing_{one.name}_{channel}"
        yield figures.figure(f"{prefix}_alarms", [alarms], "", figures.below(target), how)
        unseen = list_unseen([row.attack for row in found.attacks[1:]])
        rates = [row.figures.eer for row in found.attacks if row.attack in unseen]
        yield figures.figure(f"{prefix}_eer", [found.attacks[0].figures.eer], "", None, how)
        yield figures.figure(f"{prefix}_worst_unseen_eer", [max(rates)], "", None, how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path, help="of `sayso-train spoofs`")
    parser.add_argument("models", nargs="+", help="name=file.onnx")
    asked = parser.parse_args()
    clips = spoof_keys.read(asked.manifest, SPLIT)
    compared = asyncio.run(compare(asked.manifest))
    measured = []
    for named in asked.models:
        name, _, file = named.partition("=")
        measured.append(measure(name, Path(file), clips, asked.manifest.parent, compared))
    section = write_page(measured, clips)
    print(section)
    pages.write_measured(PAGE, section)
    figures.write("spoofing", [one for found in measured for one in list_figures(found)])


if __name__ == "__main__":
    main()
