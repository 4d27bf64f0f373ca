"""Clips in few large files, mapped into memory: for corpora that do not fit there.

pack/
├── index.json    rate, digest of the data, the shards and their sizes; written last
├── clips.csv     corpus, speaker, session, path, shard, first sample, samples
└── 00000.pcm     int16 little-endian mono, one clip after the other

Two bytes a sample, so that a crop costs one read: an hour at 16 kHz takes 115 MB.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from sys import intern

import numpy as np

from training.data.library import Clip, Library, Pcm, require_speakers
from training.errors import ManifestError

VERSION = 1
INDEX, CLIPS = "index.json", "clips.csv"
COLUMNS = ("corpus", "speaker", "session", "path", "shard", "first", "samples")
STORED = np.dtype("<i2")


@dataclass(frozen=True, slots=True)
class Shard:
    name: str
    samples: int


@dataclass(frozen=True, slots=True)
class Index:
    version: int
    sample_rate_hz: int
    digest: str
    clips: int
    shards: tuple[Shard, ...]

    @classmethod
    def read(cls, folder: Path) -> Index:
        """ManifestError when there is none, which is so until packing has ended."""
        path = folder / INDEX
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            shards = tuple(Shard(**shard) for shard in content.pop("shards"))
            index = cls(shards=shards, **content)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ManifestError(
                f"{folder} is no finished pack ({error!r}); pack it again"
            ) from error
        if index.version != VERSION:
            raise ManifestError(f"{folder} has version {index.version}, not {VERSION}")
        return index

    def write(self, folder: Path) -> None:
        beside = folder / f".{INDEX}.partial"
        beside.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        beside.replace(folder / INDEX)


def read(folder: Path, sample_rate_hz: int) -> Library:
    """The packed clips, their audio mapped into memory; its digest is that of the clips unpacked.

    Raises ManifestError for a pack that is unfinished, truncated, or at another rate.
    """
    index = Index.read(folder)
    if index.sample_rate_hz != sample_rate_hz:
        raise ManifestError(
            f"{folder} is packed at {index.sample_rate_hz} Hz, the recipe wants {sample_rate_hz}"
        )
    shards = [_map(folder, shard) for shard in index.shards]
    clips: list[Clip] = []
    audio: list[Pcm] = []
    try:
        for clip, shard, first, samples in _read_clips(folder / CLIPS):
            clips.append(clip)
            audio.append(shards[shard][first : first + samples])
            if audio[-1].size != samples:
                raise ValueError(f"clip {len(clips)} ends beyond its shard")
    except (OSError, csv.Error, ValueError, TypeError, LookupError) as error:
        raise ManifestError(f"{folder / CLIPS} is damaged ({error}); pack it again") from error
    if len(clips) != index.clips:
        raise ManifestError(
            f"{folder / CLIPS} lists {len(clips)} of {index.clips} clips; pack it again"
        )
    require_speakers(clips, str(folder))
    return Library(tuple(clips), tuple(audio), known_digest=index.digest)


def _map(folder: Path, shard: Shard) -> Pcm:
    path = folder / shard.name
    try:
        size_bytes = path.stat().st_size
        if size_bytes != shard.samples * STORED.itemsize:
            raise ManifestError(
                f"{path} has {size_bytes} of {shard.samples * STORED.itemsize} bytes: it was "
                "truncated or changed; copy it again, or pack again"
            )
        return np.asarray(np.memmap(path, STORED, "r"))
    except OSError as error:
        raise ManifestError(f"cannot read the shard {path}: {error}") from error


def _read_clips(path: Path) -> Iterator[tuple[Clip, int, int, int]]:
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            clip = Clip(
                Path(row["path"]), intern(row["corpus"]), intern(row["speaker"]), row["session"]
            )
            yield clip, int(row["shard"]), int(row["first"]), int(row["samples"])
