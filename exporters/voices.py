"""Speech for the parity gate: real recordings where there are some, else made voices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from exporters.errors import ExportError
from training.data import recording
from training.errors import AudioError

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "speech"
_SUFFIXES = {".wav", ".flac", ".ogg", ".opus"}
_FORMANTS_HZ = np.array([[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480]])
_BANDWIDTHS_HZ = np.array([80, 110, 160])
_SYLLABLES_HZ = 3.5

Waveforms = NDArray[np.float32]


def load_voices(
    folder: Path | None, *, rate: int, samples: int, count: int
) -> tuple[Waveforms, str]:
    """Load `(count, samples)` of speech at `rate` hertz, and say what it is.

    Taken from recordings in `folder` if given; else from the shared corpora beside the checkout if
    there are any; else synthesized.
    """
    if folder is None and not SHARED_DATA.is_dir():
        rows = [synthesize_voice(seed, rate=rate, samples=samples) for seed in range(count)]
        return np.stack(rows), "made voices"
    source = folder or SHARED_DATA
    return read_recordings(source, rate=rate, samples=samples, count=count), "real speech"


def read_recordings(folder: Path, *, rate: int, samples: int, count: int) -> Waveforms:
    """Read recordings evenly spread over `folder`, `(count, samples)`; short ones are joined."""
    files = _files(folder)
    if not files:
        raise ExportError(f"{folder} holds no {', '.join(sorted(_SUFFIXES))} files")
    starts = np.linspace(0, len(files), count, endpoint=False).astype(int)
    return np.stack([_row(files, int(start), rate, samples) for start in starts])


@cache
def _files(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES))


def _row(files: Sequence[Path], start: int, rate: int, samples: int) -> NDArray[np.float32]:
    pieces: list[NDArray[np.float32]] = []
    while sum(map(len, pieces)) < samples:
        pieces.append(_read(files[(start + len(pieces)) % len(files)], rate))
    return np.concatenate(pieces)[:samples]


def _read(path: Path, rate: int) -> NDArray[np.float32]:
    """Read the first channel; raises `ExportError` for what is broken, empty, silent or not finite,
    because a gate that compares embeddings of such audio says nothing."""
    try:
        recorded = recording.read(path)
    except AudioError as error:
        raise ExportError(str(error)) from error
    first = recorded.samples[:, 0]
    if (first == first[0]).all():
        raise ExportError(f"{path}: the first channel {recording.SILENT}")
    mono: NDArray[np.float32] = soxr.resample(
        first.astype(np.float32) / recording.FULL_SCALE, recorded.rate_hz, rate
    )
    return mono


def synthesize_voice(seed: int, *, rate: int, samples: int) -> NDArray[np.float32]:
    """Synthesize a voice: a gliding harmonic source through vowel formants, in syllables."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    pitch_hz = random.uniform(90, 240) * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time + seed))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate
    tract = random.uniform(0.85, 1.2)
    vowels = random.integers(len(_FORMANTS_HZ), size=samples * 4 // rate + 2)
    formants = tract * _FORMANTS_HZ[vowels[(time * _SYLLABLES_HZ).astype(int)]]  # (samples, 3)
    voiced = np.zeros(samples)
    for harmonic in range(1, int(0.45 * rate / pitch_hz.max())):
        distance = (harmonic * pitch_hz[:, None] - formants) / _BANDWIDTHS_HZ
        voiced += np.sin(harmonic * phase) * (1 / (1 + distance**2)).sum(axis=1)
    envelope = np.clip(np.sin(np.pi * _SYLLABLES_HZ * time) ** 2, 0.05, None)
    noisy = voiced * envelope + random.normal(0, 0.02, samples)
    voice: NDArray[np.float32] = (0.3 * noisy / np.abs(noisy).max()).astype(np.float32)
    return voice
