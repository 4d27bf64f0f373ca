"""Manifest to decoded clips, held in memory as int16."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from training.data import manifest, recording
from training.errors import AudioError, ManifestError

Pcm = npt.NDArray[np.int16]
DECODED_AHEAD = 64
NOISE_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus"})


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording; `speaker` is unique across corpora, `session`, if known, in its speaker."""

    path: Path
    corpus: str
    speaker: str
    session: str = ""


class Digest:
    """SHA-256 over the clips' names and samples, one clip after the other."""

    def __init__(self) -> None:
        self._total = hashlib.sha256()

    def add(self, clip: Clip, pcm: Pcm) -> None:
        self._total.update(f"{clip.corpus}\n{clip.speaker}\n{pcm.size}\n".encode())
        self._total.update(pcm.tobytes())

    def hexdigest(self) -> str:
        return self._total.hexdigest()


@dataclass(frozen=True, slots=True)
class Library:
    """Clips with their audio in the same order; files that could not be read are in `unreadable`.

    `known_digest` saves reading the audio of a pack, whose index has it.
    """

    clips: tuple[Clip, ...]
    audio: tuple[Pcm, ...]
    unreadable: tuple[AudioError, ...] = ()
    known_digest: str | None = None

    def digest(self) -> str:
        if self.known_digest is not None:
            return self.known_digest
        total = Digest()
        for clip, pcm in zip(self.clips, self.audio, strict=True):
            total.add(clip, pcm)
        return total.hexdigest()

    def of(self, chosen: Iterable[int]) -> Library:
        indices = list(chosen)
        return Library(tuple(self.clips[i] for i in indices), tuple(self.audio[i] for i in indices))


def read_manifest(path: Path, split: str = "train") -> list[Clip]:
    """Clips of one split; paths are relative to the manifest's folder.

    Raises ManifestError if it cannot be read, lacks a column, or has under two speakers.
    """
    clips = [
        Clip(row.path, row.corpus, f"{row.corpus}/{row.speaker}", row.session)
        for row in manifest.read(path)
        if row.split == split
    ]
    require_speakers(clips, f"{path}, split {split}")
    return clips


def require_speakers(clips: Sequence[Clip], source: str) -> None:
    """Raise ManifestError if there are under two speakers; `source` says of what."""
    speakers = {clip.speaker for clip in clips}
    if len(speakers) < 2:
        raise ManifestError(
            f"{source}: {len(clips)} clips of {len(speakers)} speakers; "
            "learning to tell voices apart takes at least two speakers"
        )


def decode(path: Path, sample_rate_hz: int) -> Pcm:
    """Mono (samples,) at the rate asked for; AudioError for what `recording.read` refuses."""
    recorded = recording.read(path)
    samples, rate_hz = recorded.samples, recorded.rate_hz
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1).astype(np.int16)
    if rate_hz != sample_rate_hz:
        mono = soxr.resample(mono, rate_hz, sample_rate_hz)
    return np.ascontiguousarray(mono)


def decode_all(
    clips: Sequence[Clip], sample_rate_hz: int, threads: int
) -> Iterator[tuple[Clip, Pcm | AudioError]]:
    """Decode each clip in turn: its audio, or what is wrong with it."""

    def attempt(clip: Clip) -> Pcm | AudioError:
        try:
            return decode(clip.path, sample_rate_hz)
        except AudioError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(clips), DECODED_AHEAD):
            some = clips[start : start + DECODED_AHEAD]
            yield from zip(some, pool.map(attempt, some), strict=True)


def load_clips(
    clips: Sequence[Clip],
    sample_rate_hz: int,
    *,
    threads: int = 2,
    advance: Callable[[], object] = lambda: None,
) -> Library:
    """Decode all clips, calling `advance` after each; ManifestError if under two speakers remain.

    Files that are missing, broken, empty or silent are listed in `unreadable` and left out.
    """
    readable: list[Clip] = []
    audio: list[Pcm] = []
    unreadable: list[AudioError] = []
    for clip, pcm in decode_all(clips, sample_rate_hz, threads):
        if isinstance(pcm, AudioError):
            unreadable.append(pcm)
        else:
            readable.append(clip)
            audio.append(pcm)
        advance()
    require_speakers(readable, "readable audio")
    return Library(tuple(readable), tuple(audio), tuple(unreadable))


def load_noises(folder: Path, sample_rate_hz: int) -> tuple[Pcm, ...]:
    """Decode every audio file below the folder, in order of path.

    Raises ManifestError if there is none, or one cannot be read.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in NOISE_SUFFIXES]
    if not paths:
        raise ManifestError(f"no {', '.join(sorted(NOISE_SUFFIXES))} in the noise folder {folder}")
    try:
        return tuple(decode(path, sample_rate_hz) for path in paths)
    except AudioError as error:
        raise ManifestError(f"a noise recording cannot be used: {error}") from error


def hold_out(clips: Sequence[Clip], share: float) -> tuple[list[int], list[int]]:
    """Indices to train on and to validate on, split by a hash of the speaker.

    A speaker keeps its side if others are added or removed; ManifestError if a side has under two.
    """
    sides: tuple[list[int], list[int]] = ([], [])
    for index, clip in enumerate(clips):
        sides[_is_drawn(clip.speaker, share)].append(index)
    for side, name in zip(sides, ("training", "validation"), strict=True):
        require_speakers([clips[i] for i in side], f"{name} with {share:.0%} held out")
    return sides


def choose_labeled(clips: Sequence[Clip], share: float) -> list[int]:
    """Indices of the clips of a share of the speakers, by a hash other than that of `hold_out`.

    A larger share contains every smaller one; ManifestError if it has under two speakers.
    """
    chosen = [i for i, clip in enumerate(clips) if _is_drawn(f"label {clip.speaker}", share)]
    require_speakers([clips[i] for i in chosen], f"{share:.0%} of the labels")
    return chosen


def _is_drawn(name: str, share: float) -> bool:
    first_bytes = hashlib.sha256(name.encode()).digest()[:8]
    return int.from_bytes(first_bytes, "big") < share * 2**64


def clips_by_speaker(clips: Sequence[Clip]) -> dict[str, list[int]]:
    """Indices of each speaker's clips, speakers in sorted order."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        groups[clip.speaker].append(index)
    return dict(sorted(groups.items()))
