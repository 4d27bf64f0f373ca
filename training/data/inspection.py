"""What a manifest holds, and what is wrong with it, before a night is spent on it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data import recording
from training.data.manifest import Row
from training.errors import AudioError, ManifestError

UNUSABLE = (recording.SILENT, recording.NOT_FINITE)


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """A readable file: its length, its rate, and digests of its bytes and of its samples."""

    seconds: float
    rate_hz: int
    bytes_digest: bytes
    samples_digest: bytes
    cut_short: bool


def decode(path: Path) -> DecodedFile | AudioError:
    """Decode one file; an AudioError that training would skip is returned, not raised."""
    try:
        file = recording.read(path)
        content = hashlib.sha256(path.read_bytes()).digest()
    except AudioError as error:
        return error
    except OSError as error:
        return AudioError(path, f"{recording.UNREADABLE}: {error}")
    samples, rate_hz = file.samples, file.rate_hz
    decoded = hashlib.sha256(f"{rate_hz} {samples.shape}".encode() + samples.tobytes()).digest()
    return DecodedFile(len(samples) / rate_hz, rate_hz, content, decoded, file.cut_short)


def _count(what: Sized | int) -> int:
    return what if isinstance(what, int) else len(what)


@dataclass(frozen=True, slots=True)
class Inspection:
    """Counts are of readable clips; speakers and sessions are told apart by corpus.

    `clips_per_speaker` has the least, the quartiles and the most. Duplicates are groups of two
    or more: `same_bytes` of one file's bytes, `same_audio` of the same samples in other bytes;
    `audio_of_several` are those that the manifest gives to more than one speaker.
    """

    clips: int
    hours: float
    speakers: int
    sessions: int
    clips_without_session: int
    clips_per_speaker: tuple[float, float, float, float, float]
    clips_by_split: dict[str, int]
    clips_by_corpus: dict[str, int]
    clips_by_rate_hz: dict[int, int]
    same_bytes: list[list[str]]
    same_audio: list[list[str]]
    audio_of_several: list[list[str]]
    unreadable: list[str]
    silent: list[str]
    not_finite: list[str]
    cut_short: list[str]
    too_short: list[str]
    speakers_across_splits: dict[str, list[str]]

    @property
    def faults(self) -> list[str]:
        """What would spoil a measurement on this data, a line each."""
        copies = sum(len(group) - 1 for group in (*self.same_bytes, *self.same_audio))
        counted = (
            (self.speakers_across_splits, "speakers are in more than one split: give each one"),
            (
                self.audio_of_several,
                "recordings are listed for several speakers: keep one",
            ),
            (copies, "clips repeat the audio of another: list each recording once"),
            (self.silent, "clips are silent"),
            (self.not_finite, "clips have samples that are no finite numbers"),
            (self.cut_short, "files end before their header says: copy them again"),
        )
        faults = [f"{_count(what)} {fault}" for what, fault in counted if what]
        if not self.clips:
            faults.append("no clip can be read")
        elif self.speakers < 2:
            faults.append("a single speaker: telling voices apart takes at least two")
        return faults


def inspect(
    rows: Sequence[Row],
    *,
    short_s: float,
    threads: int = 2,
    advance: Callable[[], object] = lambda: None,
) -> Inspection:
    """Decode every clip, calling `advance` after each; ManifestError if there is none."""
    if not rows:
        raise ManifestError("the manifest is empty")
    readable: list[tuple[Row, DecodedFile]] = []
    unusable: list[AudioError] = []
    with ThreadPoolExecutor(threads) as pool:
        for row, file in zip(rows, pool.map(decode, [row.path for row in rows]), strict=True):
            if isinstance(file, AudioError):
                unusable.append(file)
            else:
                readable.append((row, file))
            advance()
    return _summarize(readable, unusable, short_s)


def _summarize(
    readable: Sequence[tuple[Row, DecodedFile]], unusable: Sequence[AudioError], short_s: float
) -> Inspection:
    speakers = Counter(_speaker(row) for row, _ in readable)
    counts = list(speakers.values()) or [0]
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for row, _ in readable:
        splits[_speaker(row)].add(row.split)
    quartiles = np.percentile(counts, [0, 25, 50, 75, 100]).tolist()
    same_bytes = _groups((str(row.path), file.bytes_digest) for row, file in readable)
    copies = {path for group in same_bytes for path in group[1:]}
    owners = _groups((_speaker(row), file.samples_digest) for row, file in readable)
    return Inspection(
        clips=len(readable),
        hours=sum(file.seconds for _, file in readable) / 3600,
        speakers=len(speakers),
        sessions=len({(_speaker(row), row.session) for row, _ in readable if row.session}),
        clips_without_session=sum(not row.session for row, _ in readable),
        clips_per_speaker=tuple(quartiles),
        clips_by_split=dict(sorted(Counter(row.split for row, _ in readable).items())),
        clips_by_corpus=dict(sorted(Counter(row.corpus for row, _ in readable).items())),
        clips_by_rate_hz=dict(sorted(Counter(file.rate_hz for _, file in readable).items())),
        same_bytes=same_bytes,
        same_audio=_groups(
            (str(row.path), file.samples_digest)
            for row, file in readable
            if str(row.path) not in copies
        ),
        audio_of_several=[sorted(set(group)) for group in owners if len(set(group)) > 1],
        silent=[str(error.path) for error in unusable if error.reason == recording.SILENT],
        not_finite=[str(error.path) for error in unusable if error.reason == recording.NOT_FINITE],
        unreadable=[str(error.path) for error in unusable if error.reason not in UNUSABLE],
        cut_short=[str(row.path) for row, file in readable if file.cut_short],
        too_short=[str(row.path) for row, file in readable if file.seconds < short_s],
        speakers_across_splits={
            speaker: sorted(names) for speaker, names in sorted(splits.items()) if len(names) > 1
        },
    )


def _speaker(row: Row) -> str:
    return f"{row.corpus}/{row.speaker}"


def _groups(digests: Iterable[tuple[str, bytes]]) -> list[list[str]]:
    """Names with equal digests, in groups of two or more."""
    alike: defaultdict[bytes, list[str]] = defaultdict(list)
    for name, digest in digests:
        alike[digest].append(name)
    return [names for names in alike.values() if len(names) > 1]
