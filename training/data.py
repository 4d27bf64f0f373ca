"""Manifest to decoded clips, held in memory as int16."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from training.errors import ManifestError

Pcm = npt.NDArray[np.int16]
COLUMNS = ("path", "corpus", "speaker", "split")
NOISE_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus"})


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording; `speaker` is unique across corpora."""

    path: Path
    corpus: str
    speaker: str


@dataclass(frozen=True, slots=True)
class Library:
    """Clips with their audio in the same order; what could not be read is in `unreadable`."""

    clips: tuple[Clip, ...]
    audio: tuple[Pcm, ...]
    unreadable: tuple[Path, ...] = ()

    def digest(self) -> str:
        """SHA-256 over the clips' names and samples."""
        total = hashlib.sha256()
        for clip, pcm in zip(self.clips, self.audio, strict=True):
            total.update(f"{clip.corpus}\n{clip.speaker}\n{pcm.size}\n".encode())
            total.update(pcm.tobytes())
        return total.hexdigest()

    def of(self, chosen: Iterable[int]) -> Library:
        indices = list(chosen)
        return Library(tuple(self.clips[i] for i in indices), tuple(self.audio[i] for i in indices))


def read_manifest(path: Path, split: str = "train") -> list[Clip]:
    """Clips of one split; paths are relative to the manifest's folder.

    Raises ManifestError when it cannot be read, lacks a column, or has under two speakers.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ManifestError(f"{path} has no column {', '.join(missing)}")
            rows = []
            for row in reader:
                if any(row[name] is None for name in COLUMNS):
                    raise ManifestError(f"{path} line {reader.line_num} has too few columns")
                if row["split"] == split:
                    rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"cannot read the manifest {path}: {error}") from error
    clips = [
        Clip(path.parent / row["path"], row["corpus"], f"{row['corpus']}/{row['speaker']}")
        for row in rows
    ]
    _require_speakers(clips, f"{path}, split {split}")
    return clips


def _require_speakers(clips: Sequence[Clip], source: str) -> None:
    speakers = {clip.speaker for clip in clips}
    if len(speakers) < 2:
        raise ManifestError(
            f"{source}: {len(clips)} clips of {len(speakers)} speakers; "
            "learning to tell voices apart takes at least two speakers"
        )


def decode(path: Path, sample_rate_hz: int) -> Pcm:
    """Mono (samples,) at the rate asked for; OSError or RuntimeError when it is no audio."""
    samples, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1).astype(np.int16)
    if rate_hz != sample_rate_hz:
        mono = soxr.resample(mono, rate_hz, sample_rate_hz)
    return np.ascontiguousarray(mono)


def load(
    clips: Sequence[Clip],
    sample_rate_hz: int,
    *,
    threads: int = 2,
    advance: Callable[[], object] = lambda: None,
) -> Library:
    """Decode all clips, calling `advance` after each; ManifestError when under two speakers remain.

    Files that are missing, broken or empty are listed in `unreadable` and left out.
    """

    def attempt(clip: Clip) -> Pcm | None:
        try:
            pcm = decode(clip.path, sample_rate_hz)
        except (OSError, RuntimeError):
            return None
        return pcm if pcm.size else None

    decoded: list[Pcm | None] = []
    with ThreadPoolExecutor(threads) as pool:
        for pcm in pool.map(attempt, clips):
            decoded.append(pcm)
            advance()
    pairs = [(clip, pcm) for clip, pcm in zip(clips, decoded, strict=True) if pcm is not None]
    unreadable = [clip.path for clip, pcm in zip(clips, decoded, strict=True) if pcm is None]
    _require_speakers([clip for clip, _ in pairs], "readable audio")
    return Library(
        tuple(clip for clip, _ in pairs), tuple(pcm for _, pcm in pairs), tuple(unreadable)
    )


def load_noises(folder: Path, sample_rate_hz: int) -> tuple[Pcm, ...]:
    """Every audio file below the folder, in order of path.

    Raises ManifestError when there is none, or one cannot be read.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in NOISE_SUFFIXES]
    if not paths:
        raise ManifestError(f"no {', '.join(sorted(NOISE_SUFFIXES))} in the noise folder {folder}")
    try:
        return tuple(decode(path, sample_rate_hz) for path in paths)
    except (OSError, RuntimeError) as error:
        raise ManifestError(f"a noise recording cannot be read: {error}") from error


def hold_out(clips: Sequence[Clip], share: float) -> tuple[list[int], list[int]]:
    """Indices to train on and to validate on, split by a hash of the speaker.

    A speaker keeps its side when others come or go; ManifestError when a side has under two.
    """

    def held_out(speaker: str) -> bool:
        first_bytes = hashlib.sha256(speaker.encode()).digest()[:8]
        return int.from_bytes(first_bytes, "big") < share * 2**64

    sides: tuple[list[int], list[int]] = ([], [])
    for index, clip in enumerate(clips):
        sides[held_out(clip.speaker)].append(index)
    for side, name in zip(sides, ("training", "validation"), strict=True):
        _require_speakers([clips[i] for i in side], f"{name} with {share:.0%} held out")
    return sides


def clips_by_speaker(clips: Sequence[Clip]) -> dict[str, list[int]]:
    """Indices of each speaker's clips, speakers in sorted order."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        groups[clip.speaker].append(index)
    return dict(sorted(groups.items()))
