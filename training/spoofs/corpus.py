"""Plans a corpus of bona fide and spoofed clips, makes it and lists it."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from training.augment.waveform import FULL_SCALE, SILENCE, Rng, Waveform, measure_rms
from training.data.library import decode
from training.errors import AudioError, GeneratorError, ManifestError
from training.spoofs.generators import GENERATORS, Source
from training.spoofs.texts import choose_text

BONA_FIDE = "bonafide"
MANIFEST = "manifest.csv"
LEARNED_SPLIT = "train"
COLUMNS = ("path", "corpus", "speaker", "split", "attack", "kind", "source")
LABELS = ("language", "gender", "age")
RATE_HZ = 16000
OPUS_LEVELS = (0.88, 0.96)  # of libsndfile: about 16 to 32 kb/s
FLOOR_FRAME_S = 0.02
MOST_S = 6.0
SHORTEST_S = 0.8
QUIETEST = 1e-4


@dataclass(frozen=True, slots=True)
class BonaFide:
    """A clip of the manifest that is read; `labels` are what it says of the speaker."""

    path: Path
    corpus: str
    speaker: str
    split: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A clip to be made: of `source` by `attack`, which is `BONA_FIDE` for a copy."""

    source: BonaFide
    other: BonaFide
    attack: str
    name: str
    seed: int


def read_bona_fide(manifest: Path, splits: Sequence[str]) -> list[BonaFide]:
    """Rows of the splits that are at least 0.8 s long; ManifestError if a column is missing."""
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            return [
                BonaFide(
                    manifest.parent / row["path"],
                    row["corpus"],
                    row["speaker"],
                    row["split"],
                    tuple(row.get(label) or "" for label in LABELS),
                )
                for row in csv.DictReader(file)
                if row["split"] in splits and float(row.get("seconds") or "inf") >= SHORTEST_S
            ]
    except (OSError, KeyError, ValueError) as error:
        raise ManifestError(f"cannot read the manifest {manifest}: {error!r}") from error


def plan(
    rows: Sequence[BonaFide], *, bona_fide: int, each: int, attacks: Sequence[str], seed: int
) -> list[Job]:
    """List the jobs of one split: so many bona fide clips, and so many of each attack.

    Clips are drawn in turns of corpora and of speakers, so that neither a large corpus nor a
    speaker of many clips fills the list. Attacks that are held out are left out of the training
    split. What is drawn for an attack does not depend on which others there are.
    """
    split = rows[0].split if rows else ""
    rng = np.random.default_rng((seed, _hash(split)))
    ordered = list(_take_turns(rows, rng))
    by_speaker = {(row.corpus, row.speaker): row for row in rows}
    if len(by_speaker) < 2:
        raise ManifestError(f"split {split!r} has {len(by_speaker)} speakers; it takes two or more")
    speakers = list(by_speaker)
    jobs = []
    counts = {BONA_FIDE: bona_fide} | {
        attack: each
        for attack in attacks
        if not (split == LEARNED_SPLIT and GENERATORS[attack].held_out)
    }
    for attack, count in counts.items():
        rng = np.random.default_rng((seed, _hash(f"{split}/{attack}")))
        start = 0 if attack == BONA_FIDE else int(rng.integers(len(ordered)))
        for number in range(min(count, len(ordered))):
            source = ordered[(start + number) % len(ordered)]
            others = [name for name in speakers if name != (source.corpus, source.speaker)]
            other = by_speaker[others[int(rng.integers(len(others)))]]
            name = f"{split}/{attack}/{number:05d}.opus"
            jobs.append(Job(source, other, attack, name, seed))
    return jobs


def make(
    jobs: Sequence[Job], folder: Path, *, workers: int = 1
) -> Iterator[tuple[Job, str | None]]:
    """Make every clip below `folder`; yields each job with what is wrong with it, None if made.

    A clip depends on its job alone, neither on the others nor on `workers`. Clips that exist are
    left as they are, so that a run that was stopped goes on.
    """
    make_one = partial(_make_clip, folder)
    if workers <= 1:
        yield from zip(jobs, map(make_one, jobs), strict=True)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from zip(jobs, pool.map(make_one, jobs, chunksize=4), strict=True)


def write_manifest(path: Path, jobs: Sequence[Job]) -> None:
    """List clips by path, bona fide speaker (a spoofed clip claims to be its source's), attack,
    kind of attack and bona fide source."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *LABELS])
        for job in jobs:
            of = job.source
            kind = BONA_FIDE if job.attack == BONA_FIDE else GENERATORS[job.attack].kind
            row = (job.name, of.corpus, of.speaker, of.split, job.attack, kind, str(of.path))
            writer.writerow([*row, *of.labels])


def capture(speech: Waveform, like: Waveform, rng: Rng, *, dry: bool) -> Waveform:
    """Give a clip the level of the recording that it is made like.

    What no microphone has heard (`dry`) also gets the recording's noise floor and the coding by
    Opus that the recording went through before it was read; the file is coded once more.
    """
    speech = speech * np.float32(measure_rms(like) / max(measure_rms(speech), SILENCE))
    if not dry:
        return speech
    noise = rng.standard_normal(speech.size) * measure_floor(like)
    coded = io.BytesIO()
    write_opus(coded, (speech + noise).astype(np.float32), rng)
    coded.seek(0)
    return np.asarray(soundfile.read(coded, dtype="float32")[0], np.float32)


def measure_floor(speech: Waveform) -> float:
    """The level of the quietest tenth of a recording's frames of 20 ms."""
    frame = round(FLOOR_FRAME_S * RATE_HZ)
    frames = speech[: speech.size // frame * frame].reshape(-1, frame)
    levels = np.sqrt(np.square(frames, dtype=np.float64).mean(axis=1))
    return float(np.quantile(levels, 0.1)) if levels.size else 0.0


def write_opus(target: Path | BinaryIO, speech: Waveform, rng: Rng) -> None:
    """Code at a drawn bit rate."""
    soundfile.write(
        target,
        np.clip(speech, -1.0, 1.0),
        RATE_HZ,
        format="OGG",
        subtype="OPUS",
        compression_level=float(rng.uniform(*OPUS_LEVELS)),
    )


def _make_clip(folder: Path, job: Job) -> str | None:
    path = folder / job.name
    if path.exists():
        return None
    rng = np.random.default_rng((job.seed, _hash(job.name)))
    try:
        speech = _cut(_load(job.source), rng)
        if job.attack == BONA_FIDE:
            made = capture(speech, speech, rng, dry=False)
        else:
            generator = GENERATORS[job.attack]
            text = choose_text(job.source.path, rng)
            source = Source(speech, _cut(_load(job.other), rng), text, RATE_HZ)
            made = _cut(generator.make(source, rng), rng)
            if made.size < SHORTEST_S * RATE_HZ / 2 or measure_rms(made) < QUIETEST:
                raise GeneratorError("made no speech")
            made = capture(made, speech, rng, dry=generator.speaks)
    except (AudioError, GeneratorError) as error:
        return f"{job.attack} of {job.source.path}: {error}"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_suffix(".partial")
    write_opus(partial_path, made, rng)
    partial_path.replace(path)
    return None


def _load(clip: BonaFide) -> Waveform:
    return np.asarray(decode(clip.path, RATE_HZ) / FULL_SCALE, np.float32)


def _cut(speech: Waveform, rng: Rng) -> Waveform:
    most = round(MOST_S * RATE_HZ)
    start = int(rng.integers(max(1, speech.size - most)))
    return np.asarray(speech[start : start + most], np.float32)


def _take_turns(rows: Sequence[BonaFide], rng: Rng) -> Iterator[BonaFide]:
    """Every row once: corpora in turn, and within each its speakers in turn."""
    corpora: dict[str, dict[str, list[BonaFide]]] = defaultdict(lambda: defaultdict(list))
    for index in rng.permutation(len(rows)):
        row = rows[index]
        corpora[row.corpus][row.speaker].append(row)
    queues = [
        [clip for _, _, clip in sorted(_rank(speakers), key=lambda ranked: ranked[:2])]
        for _, speakers in sorted(corpora.items())
    ]
    for turn in range(max(map(len, queues), default=0)):
        yield from (queue[turn] for queue in queues if turn < len(queue))


def _rank(speakers: dict[str, list[BonaFide]]) -> Iterator[tuple[int, int, BonaFide]]:
    for place, clips in enumerate(speakers.values()):
        for number, clip in enumerate(clips):
            yield number, place, clip


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
