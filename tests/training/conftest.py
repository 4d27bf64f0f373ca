"""Made voices: harmonic tones with a pitch and resonances per speaker, in a folder of WAV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from training.data.library import Clip, Library

RATE_HZ = 16000


def voice(speaker: int, take: int, seconds: float) -> npt.NDArray[np.float32]:
    """A buzz whose three resonances belong to the speaker; pitch and tilt belong to the take."""
    formants_hz = np.sort(np.random.default_rng(speaker).uniform(300, 3300, 3))
    rng = np.random.default_rng((speaker, take))
    pitch_hz, tilt = rng.uniform(90, 220), rng.uniform(0.0, 1.0)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    melody = pitch_hz * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(1, 4) * time_s))
    phase = 2 * np.pi * np.cumsum(melody) / RATE_HZ
    wave = rng.normal(0, 0.03, time_s.size)
    for harmonic in range(1, int(3600 / pitch_hz)):
        gain = np.exp(-np.abs(harmonic * pitch_hz - formants_hz) / 200).sum() / harmonic**tilt
        wave += gain * np.sin(harmonic * phase + rng.uniform(0, 6))
    return np.asarray(0.1 * wave / np.abs(wave).max(), np.float32)


def write_corpus(folder: Path, speakers: int, takes: int, seconds: float = 0.7) -> Path:
    """A manifest with its clips beside it; returns the manifest's path."""
    rows = []
    for speaker in range(speakers):
        for take in range(takes):
            name = f"{speaker}-{take}.wav"
            soundfile.write(folder / name, voice(speaker, take, seconds), RATE_HZ)
            rows.append([name, "made", f"s{speaker}", "train", seconds])
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "corpus", "speaker", "split", "seconds"])
        writer.writerows(rows)
    return manifest


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 24 made speakers with 4 clips of 0.7 s each."""
    return write_corpus(tmp_path_factory.mktemp("corpus"), speakers=24, takes=4)


@pytest.fixture(scope="session")
def sittings() -> Library:
    """48 made voices, each recorded in one sitting that is cut into two clips of 0.7 s."""
    halves = [
        (Clip(Path(f"{speaker}-{half}.wav"), "made", f"made/s{speaker}"), pcm)
        for speaker in range(48)
        for half, pcm in enumerate(np.split((32767 * voice(speaker, 0, 1.4)).astype(np.int16), 2))
    ]
    return Library(tuple(clip for clip, _ in halves), tuple(pcm for _, pcm in halves))


@pytest.fixture(autouse=True)
def denormals_after() -> Iterator[None]:
    """Training flushes denormal numbers to zero, in the whole process: undo that for the others."""
    yield
    torch.set_flush_denormal(False)
