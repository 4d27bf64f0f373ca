"""Measure the checks of an enrolment on real speech, for the table of docs/operate/voices.md.

    python -m benchmarks.accuracy.enrollment_checks [MODEL] [--manifest ../shared/data/manifest.csv]

Recordings of one person, and of two people of the same corpus, are joined. Measured is whether the
whole coheres, whether its second half matches its first, and whether the second half would be found
among many other voices.
"""

import argparse
import asyncio
import csv
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import pages
from service.audio.decoding import AudioFormat, decode
from service.audio.quality import SAMPLE_RATE
from service.audio.speech import VoiceActivity
from service.calls.verification import ProbeEmbedding, Verifier
from service.contract import Contract
from service.decisions.thresholds import careful_threshold
from service.inference.embedder import Embedder, Samples, Utterance
from service.inference.session import Session
from service.settings import SHIPPED_MODEL, EnrollmentRules

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "operate" / "voices.md"
HALVES_S = (3.0, 4.0, 6.0, 8.0)
THRESHOLDS = (-1.0, 0.0, 1.0, 2.0)
VOICES = (10, 100, 1000, 10_000)
LEVEL = 0.05

Clips = dict[str, list[Path]]  # by speaker


@dataclass(frozen=True, slots=True)
class Joined:
    """Two halves of `half_s` seconds each, of one person or of two."""

    one_person: bool
    halves: tuple[Samples, Samples]


@dataclass(frozen=True, slots=True)
class Ratios:
    """Natural-log likelihood ratios `(recordings,)` for one person."""

    parts: NDArray[np.float64]
    coherence: NDArray[np.float64]
    match: NDArray[np.float64]
    one_person: NDArray[np.bool_]


def group_by_corpus(manifest: Path, split: str) -> dict[str, Clips]:
    found: dict[str, Clips] = defaultdict(lambda: defaultdict(list))
    with manifest.open() as rows:
        for row in csv.DictReader(rows):
            if row["split"] == split:
                found[row["corpus"]][row["speaker"]].append(manifest.parent / row["path"])
    return found


def cut_half(paths: list[Path], half_s: float) -> Samples | None:
    """Join recordings to `half_s` seconds at a fixed level; None if they are shorter."""
    pieces: list[Samples] = []
    samples = int(half_s * SAMPLE_RATE)
    for path in paths:
        if sum(map(len, pieces)) < samples:
            pieces.append(decode(path.read_bytes(), AudioFormat(), rate=SAMPLE_RATE, max_s=60))
    whole = np.concatenate(pieces)[:samples]
    if len(whole) < samples:
        return None
    return (LEVEL / float(np.sqrt(np.mean(whole**2))) * whole).astype(np.float32)


def draw_joined(clips: Clips, chance: random.Random, *, one_person: bool) -> Joined | None:
    mine, theirs = chance.sample(sorted(clips), 2)
    half_s = chance.choice(HALVES_S)
    paths = chance.sample(clips[mine], len(clips[mine]))
    middle = len(paths) // 2
    ending = paths[middle:] if one_person else clips[theirs]
    if not middle:
        return None
    first, second = cut_half(paths[:middle], half_s), cut_half(ending, half_s)
    return None if first is None or second is None else Joined(one_person, (first, second))


def draw_recordings(clips: Clips, count: int, chance: random.Random) -> list[Joined]:
    """Draw `count` recordings of one person and `count` of two, or as many as the corpus allows."""
    made: dict[bool, list[Joined]] = {True: [], False: []}
    for attempt in range(20 * count):
        one_person = attempt % 2 == 0
        joined = draw_joined(clips, chance, one_person=one_person)
        if joined is not None and len(made[one_person]) < count:
            made[one_person].append(joined)
    return made[True] + made[False]


async def measure_ratios(session: Session, joined: list[Joined]) -> Ratios:
    verifier = Verifier(session.contract)
    parts, coherence, match, one_person = [], [], [], []
    async with Embedder(session, VoiceActivity.open(), max_batch=8, queue_limit=512) as embedder:
        for each in joined:
            whole = await embedder.open_stream(enrolling=True).finish(np.concatenate(each.halves))
            first, second = [make_probe(await embedder.embed(samples)) for samples in each.halves]
            if whole.coherence is None or first is None or second is None or whole.parts is None:
                continue
            assert whole.embedding is not None, "there is one of each half"
            coherence.append(verifier.scorer.coherence_llr(whole.embedding, whole.coherence))
            speech_s = whole.quality.net_speech_s
            parts.append(verifier.scorer.parts_llr(whole.embedding, whole.parts, speech_s))
            match.append(verifier.compare(first, second).llr)
            one_person.append(each.one_person)
    return Ratios(np.array(parts), np.array(coherence), np.array(match), np.array(one_person))


def make_probe(heard: Utterance) -> ProbeEmbedding | None:
    if heard.embedding is None:
        return None
    return ProbeEmbedding(heard.embedding, heard.quality.net_speech_s, heard.quality.snr_db)


def format_table(ratios: Ratios, contract: Contract, described: str) -> str:
    one = ratios.one_person
    lines = [
        f"Measured with {contract.model_id} on {described}:",
        f"{np.sum(one)} recordings of one person, {np.sum(~one)} of two.",
        "",
        "| check | threshold | right ones refused | wrong ones passed |",
        "|---|---|---|---|",
    ]
    checks = {
        "MULTIPLE_VOICES, parts": ratios.parts,
        "MULTIPLE_VOICES, windows": ratios.coherence,
        "VOICE_MISMATCH": ratios.match,
    }
    for name, found in checks.items():
        for least in THRESHOLDS:
            refused, passed = np.mean(found[one] < least), np.mean(found[~one] >= least)
            lines.append(f"| {name} | {least:g} | {refused:.1%} | {passed:.1%} |")
    alarm_rate = EnrollmentRules().duplicate_alarm_rate
    lines += ["", "| voices searched | duplicates found | threshold |", "|---|---|---|"]
    for voices in VOICES:
        assert contract.calibration is not None, "checked at the start"
        least = careful_threshold(contract.calibration, alarm_rate / voices)
        lines.append(f"| {voices} | {np.mean(ratios.match[one] >= least):.1%} | {least:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--manifest", type=Path, default=ROOT.parent / "shared/data/manifest.csv")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--count", type=int, default=100, help="recordings of each kind, a corpus")
    parser.add_argument("--print", action="store_true", help="leave the page as it is")
    arguments = parser.parse_args()
    session = Session.open(arguments.model, device="auto")
    if session.contract.calibration is None or not session.contract.calibration.false_match:
        parser.error(f"{arguments.model} has no calibration; run `sayso-export calibrate` on it")
    chance = random.Random(0)  # noqa: S311 - a repeatable draw
    joined, corpora_used = [], []
    for corpus, clips in sorted(group_by_corpus(arguments.manifest, arguments.split).items()):
        if found := draw_recordings(clips, arguments.count, chance) if len(clips) > 1 else []:
            joined += found
            corpora_used.append(corpus)
    ratios = asyncio.run(measure_ratios(session, joined))
    described = f"the {arguments.split} speakers of {', '.join(corpora_used)}"
    measurement = format_table(ratios, session.contract, described)
    print(measurement)
    if not arguments.print:
        pages.write_measured(PAGE, measurement)


if __name__ == "__main__":
    main()
