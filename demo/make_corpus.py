"""Makes a small corpus to try training on, from the clips of demo/audio and nothing else.

    python -m demo.make_corpus FOLDER

A clip played at another speed is a voice with a shorter or longer vocal tract: each of the four
voices becomes one speaker for each speed. Clips are cut into pieces, and each piece has a level and
a noise of its own. It shows that the commands work; a model of real use needs recordings of people.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from demo.make_audio import RATE, record

CLIPS = Path(__file__).parent / "audio"
SPEEDS = tuple(np.geomspace(0.72, 1.38, 10).round(3))
DEV_EVERY = 3  # of the speeds, so that no speaker of the dev split is trained on
PIECE_S = 2.5
COLUMNS = ("path", "corpus", "speaker", "split", "session")


def cut(clip: Path, speed: float) -> Iterator[NDArray[np.float64]]:
    """Whole pieces of a clip at a speed, without the silence around it: (samples,) at 16 kHz."""
    samples, rate = soundfile.read(clip)
    played = soxr.resample(samples[rate // 2 : -rate // 2], rate * speed, RATE)
    piece = int(PIECE_S * RATE)
    yield from (played[start : start + piece] for start in range(0, len(played) - piece + 1, piece))


def make_corpus(folder: Path) -> Path:
    """Write the recordings and their manifest, and return the manifest's path."""
    noise = np.random.default_rng(1)
    rows = []
    for voice in sorted(path for path in CLIPS.iterdir() if path.is_dir()):
        for place, speed in enumerate(SPEEDS):
            speaker = f"{voice.name}-{place:02}"
            split = "train" if place % DEV_EVERY else "dev"
            for clip in sorted(voice.iterdir()):
                for number, piece in enumerate(cut(clip, speed)):
                    path = Path(speaker) / f"{clip.stem}-{number}.flac"
                    level, snr = noise.uniform(-30, -18), noise.uniform(20, 40)
                    (folder / speaker).mkdir(parents=True, exist_ok=True)
                    soundfile.write(folder / path, record(piece, level, snr, noise), RATE)
                    rows.append((path, "sample", speaker, split, clip.stem))
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    speakers = len({row[2] for row in rows})
    print(f"{manifest}: {len(rows)} clips of {speakers} made voices")
    return manifest


if __name__ == "__main__":
    make_corpus(Path(sys.argv[1]))
