"""The weights by which `service.audio.pace` notices a wrong sample rate: `service/audio/pace.npz`.

    clips of a speaker ─> line ─> right rates, half, twice ─> speech ─> features ─> weights

    python -m exporters.pace listen MANIFEST FEATURES.npz [--split dev] [--shard 0/2] [--count 800]
    python -m exporters.pace fit FEATURES.npz ...

Weights are fitted on the train split; a threshold is above all that cross-validation over its
speakers gives to speech at the right rate, and the dev split is what both are judged on.
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from evaluation.degrade import channels, codecs
from evaluation.trials import manifest
from evaluation.trials.manifest import Clip
from evaluation.trials.sampling import Shard
from service.audio import pace
from service.audio.decoding import AudioFormat, decode
from service.audio.quality import SAMPLE_RATE
from service.audio.speech import VoiceActivity, extract

Samples = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

HALF_RATE = SAMPLE_RATE // 2
SPLITS = ("dev", "train")
JOINED_S, LEAST_S, MOST_S = 7.0, 3.2, 9
OF_A_SPEAKER = 12
LINES = ("noisy", "gentle line", "GSM", "mu-law", "steep line")
RIGHT = ("16 kHz", "8 kHz")
FOLDS, SHRINKAGE = 5, 0.1
MARGIN = 0.15  # of the distance between the means: at 0.02 three dev recordings were doubted


@dataclass(frozen=True, slots=True)
class Heard:
    """Features (n, 471) of speech, and of each whose it is: split, corpus and speaker, line, and
    reading: a right rate, `pace.SLOW` or `pace.FAST`."""

    features: Doubles
    split: NDArray[np.str_]
    speaker: NDArray[np.str_]
    line: NDArray[np.str_]
    reading: NDArray[np.str_]

    @classmethod
    def load(cls, files: Sequence[Path]) -> "Heard":
        parts = [np.load(file) for file in files]
        columns = (np.concatenate([part[name] for part in parts]) for name in cls.__slots__)
        features, *labels = columns
        return cls(features.astype(np.float64), *labels)

    def save(self, file: Path) -> None:
        np.savez(
            file,
            features=self.features,
            split=self.split,
            speaker=self.speaker,
            line=self.line,
            reading=self.reading,
        )


def read_recordings(table: Path) -> list[tuple[str, Sequence[Clip]]]:
    """Yield a split and clips of one speaker that last 7 s together, at most 12 times a speaker, in
    random order."""
    chance, made = random.Random(5), list[tuple[str, Sequence[Clip]]]()  # noqa: S311
    for split in SPLITS:
        by_speaker: dict[manifest.Speaker, list[Clip]] = {}
        for clip in manifest.read(table, split):
            by_speaker.setdefault(clip.speaker, []).append(clip)
        for _, own in sorted(by_speaker.items()):
            chance.shuffle(own)
            made += [(split, together) for together in join_clips(own)]
    chance.shuffle(made)
    taken = Counter[manifest.Speaker]()
    kept = list[tuple[str, Sequence[Clip]]]()
    for split, clips in made:
        taken[clips[0].speaker] += 1
        if taken[clips[0].speaker] <= OF_A_SPEAKER:
            kept.append((split, clips))
    return kept


def join_clips(clips: Sequence[Clip]) -> Iterator[Sequence[Clip]]:
    together, seconds = list[Clip](), 0.0
    for clip in clips:
        together.append(clip)
        seconds += float(clip.labels["seconds"])
        if seconds >= JOINED_S:
            yield together
            together, seconds = [], 0.0
    if seconds >= LEAST_S:
        yield together


def listen(table: Path, output: Path, split: str | None, shard: Shard, count: int | None) -> None:
    """Compute features of recordings at their right rates and at wrong ones, and save them."""
    vad = VoiceActivity.open()
    rows = list[tuple[Samples, str, str, str, str]]()
    asked = [each for each in read_recordings(table) if split in (None, each[0])]
    for number, (own_split, clips) in enumerate(asked[shard.index :: shard.count][:count]):
        rng = np.random.default_rng([number, shard.index])
        pieces = [
            decode(clip.file.read_bytes(), AudioFormat(), rate=SAMPLE_RATE, max_s=60)
            for clip in clips
        ]
        samples = np.concatenate(pieces)[: MOST_S * SAMPLE_RATE]
        samples = channels.set_peak(samples, rng.uniform(-24, -2))
        line, samples = pass_through_line(samples, rng)
        for reading, wrong in misread(samples):
            speech = extract(vad, wrong).samples
            if speech.size >= pace.SPEECH_SAMPLES:
                own = (own_split, str(clips[0].speaker), line, reading)
                rows.append((pace.compute_features(speech), *own))
    features, *labels = zip(*rows, strict=True)
    Heard(np.array(features), *map(np.array, labels)).save(output)


def pass_through_line(samples: Samples, rng: np.random.Generator) -> tuple[str, Samples]:
    """Add noise or a telephone line to half of the recordings; return its name and the samples."""
    if rng.random() < 0.5:
        return "as recorded", samples
    line = LINES[int(rng.integers(len(LINES)))]
    match line:
        case "noisy":
            changed = channels.add_noise(samples, SAMPLE_RATE, snr_db=rng.uniform(8, 25), rng=rng)
        case "gentle line":
            handset = channels.filter_handset(samples, SAMPLE_RATE, rng)
            changed = channels.gentle_line(handset, SAMPLE_RATE)
        case "steep line":
            changed = channels.steep_line(samples, SAMPLE_RATE)
        case _:
            codec = {"GSM": "gsm", "mu-law": "mulaw"}[line]
            changed = codecs.apply(codec, samples, SAMPLE_RATE, rng)
    return line, changed


def misread(samples: Samples) -> Iterator[tuple[str, Samples]]:
    """Yield what a server would hear, at 16 kHz, if `samples` (n,) are declared at each rate."""
    narrow = soxr.resample(samples, SAMPLE_RATE, HALF_RATE)
    yield RIGHT[0], samples
    yield RIGHT[1], soxr.resample(narrow, HALF_RATE, SAMPLE_RATE)
    # 4 s, declared as 8 kHz, are 8 s.
    yield pace.SLOW, soxr.resample(samples[: 4 * SAMPLE_RATE], HALF_RATE, SAMPLE_RATE)
    yield pace.FAST, narrow


def fit_discriminant(features: Doubles, wrong: Bools) -> Doubles:
    """Fit Fisher's linear discriminant (1 + 471,): a threshold half way, and the weights."""
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    scaled = (features - centre) / scale
    means = [scaled[kind].mean(axis=0) for kind in (~wrong, wrong)]
    rest = scaled - np.where(wrong[:, np.newaxis], means[1], means[0])
    within = (1 - SHRINKAGE) * rest.T @ rest / len(rest) + SHRINKAGE * np.eye(len(centre))
    weights = np.linalg.solve(within, means[1] - means[0]) / scale
    middle = (means[0] + means[1]) / 2 * scale + centre
    fitted: Doubles = np.append(middle @ weights, weights)
    return fitted


def measure_excess(features: Doubles, fitted: Doubles) -> Doubles:
    """Measure how far (n,) features are above the threshold."""
    distance: Doubles = features @ fitted[1:] - fitted[0]
    return distance


def fit(heard: Heard) -> dict[str, Samples]:
    """Fit the weights of each verdict, and print what they find on either split."""
    fitted = {}
    for name in (pace.SLOW, pace.FAST):
        readings = np.isin(heard.reading, [*RIGHT, name])
        features, wrong = heard.features[readings], heard.reading[readings] == name
        train, speaker = heard.split[readings] == "train", heard.speaker[readings]
        number = np.unique(speaker, return_inverse=True)[1]
        fold = np.random.default_rng(0).permutation(number.max() + 1)[number] % FOLDS
        unseen = np.zeros(len(wrong))
        for one in range(FOLDS):
            seen, left_out = train & (fold != one), fold == one
            unseen[left_out] = measure_excess(
                features[left_out], fit_discriminant(features[seen], wrong[seen])
            )
        weights = fit_discriminant(features[train], wrong[train])
        spread = unseen[train & wrong].mean() - unseen[train & ~wrong].mean()
        weights[0] += unseen[train & ~wrong].max() + MARGIN * spread
        fitted[name] = weights.astype(np.float32)
        found = measure_excess(features, weights) > 0
        for split in SPLITS:
            own = heard.split[readings] == split
            print_verdicts(name, split, found[own], wrong[own], heard.line[readings][own])
    return fitted


def print_verdicts(
    name: str, split: str, found: Bools, wrong: Bools, line: NDArray[np.str_]
) -> None:
    for one in ("any", *np.unique(line)):
        own = np.ones(len(line), bool) if one == "any" else line == one
        right, missed = own & ~wrong, own & wrong
        print(  # noqa: T201
            f"{name}, {split}, {one}: found {found[missed].sum()} of {missed.sum()},"
            f" doubted {found[right].sum()} of {right.sum()} right"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listening = commands.add_parser("listen")
    listening.add_argument("manifest", type=Path)
    listening.add_argument("output", type=Path)
    listening.add_argument("--split", choices=SPLITS)
    listening.add_argument("--shard", type=Shard.parse, default=Shard(0, 1))
    listening.add_argument("--count", type=int, help="recordings to hear")
    commands.add_parser("fit").add_argument("features", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "listen":
        listen(
            arguments.manifest, arguments.output, arguments.split, arguments.shard, arguments.count
        )
    else:
        slow, fast = fit(Heard.load(arguments.features)).values()
        np.savez(pace.WEIGHTS, slow=slow, fast=fast)


if __name__ == "__main__":
    main()
