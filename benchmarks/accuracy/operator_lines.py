"""Simulated operators: recordings of many callers that all came over one fixed telephone line.

A line is a band, a companding law or a codec, and noise, the same for every call; what differs
from call to call is the caller, the level and the noise's samples.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from service.audio.decoding import AudioFormat, decode
from training.augment import Rng, Waveform
from training.augment.codecs import Codec
from training.augment.levels import set_level
from training.augment.noise import add_noise
from training.augment.rooms import draw_room_response, reverberate
from training.augment.telephone import a_law, mu_law, send_by_telephone

RATE_HZ = 16_000
LEVEL_DBFS = (-32.0, -18.0)
Line = Callable[[Waveform, Rng], Waveform]

_MP3 = Codec("MP3", "MPEG_LAYER_III", (0.9, 0.9))
_GSM = Codec("WAV", "GSM610")


@dataclass(frozen=True, slots=True)
class Callers:
    """Which clips of a corpus call: `clips` each of `speakers` are labelled, and one each of
    `others` is not."""

    corpus: str
    labelled_splits: tuple[str, ...]
    speakers: int
    clips: int
    others: int


CALLERS = (
    Callers("speechocean762", ("dev",), 50, 6, 200),
    Callers("common_voice", ("dev", "train"), 80, 5, 200),
)


def _landline(speech: Waveform, _: Rng) -> Waveform:
    """A steep 300 to 3400 Hz and A-law."""
    return send_by_telephone(
        speech, RATE_HZ, low_hz=300.0, high_hz=3400.0, companding=a_law, low_order=8, high_order=16
    )


def _mobile(speech: Waveform, rng: Rng) -> Waveform:
    """A gentle band, then GSM."""
    narrow = send_by_telephone(
        speech, RATE_HZ, low_hz=150.0, high_hz=3500.0, companding=mu_law, low_order=2
    )
    return _GSM(narrow, RATE_HZ, rng)


def _recorder(speech: Waveform, rng: Rng) -> Waveform:
    """A loudspeaker telephone in a room, noise 12 to 20 dB below, recorded in low-rate MP3."""
    room = draw_room_response(0.4, 3.0, RATE_HZ, np.random.default_rng(7))
    noise = np.cumsum(rng.standard_normal(speech.size)).astype(np.float32)
    noise -= np.convolve(noise, np.ones(160, np.float32) / 160, mode="same")
    noisy = add_noise(reverberate(speech, room), noise, rng.uniform(12, 20))
    narrow = send_by_telephone(noisy, RATE_HZ, low_hz=250.0, high_hz=3400.0, companding=mu_law)
    return _MP3(narrow, RATE_HZ, rng)


LINES: Mapping[str, Line] = {"landline": _landline, "mobile": _mobile, "recorder": _recorder}


def make_operator(data: Path, callers: Callers, line: str, folder: Path, *, seed: int = 0) -> Path:
    """Send the callers' clips over the line, and write them with a manifest; return its path.

    Rows without a speaker are the unlabelled ones. A folder made before is kept.
    """
    manifest = folder / "manifest.csv"
    if manifest.exists():
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (path, speaker) in enumerate(_choose(data, callers, seed)):
        samples = decode((data.parent / path).read_bytes(), AudioFormat(), rate=RATE_HZ, max_s=60)
        rng = np.random.default_rng([seed, number])
        heard = LINES[line](set_level(samples, LEVEL_DBFS, rng), rng)
        name = f"{number:04}.flac"
        soundfile.write(folder / name, np.clip(heard, -1, 1), RATE_HZ, subtype="PCM_16")
        rows.append((name, speaker))
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "speaker"), *rows])
    return manifest


def _choose(data: Path, callers: Callers, seed: int) -> Iterator[tuple[str, str]]:
    """Draw (path, speaker) of the labelled clips and (path, "") of the others."""
    clips: dict[tuple[str, str], list[str]] = defaultdict(list)
    with data.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["corpus"] == callers.corpus:
                clips[row["split"], row["speaker"]].append(row["path"])
    draw = partial(np.random.default_rng(seed).permutation)
    splits = callers.labelled_splits
    known = sorted(
        (key for key in clips if key[0] in splits and len(clips[key]) >= callers.clips),
        key=lambda key: splits.index(key[0]),
    )[: callers.speakers]
    for key in known:
        yield from ((clips[key][i], key[1]) for i in sorted(draw(len(clips[key]))[: callers.clips]))
    left = sorted(key for key in clips if key[0] == "train" and key not in known)
    for place in sorted(draw(len(left))[: callers.others]):
        yield clips[left[place]][0], ""
