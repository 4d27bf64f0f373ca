"""A manifest's clips, decoded once and written into shards."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from training.data.library import Clip, Digest, Pcm, decode_all, require_speakers
from training.data.shards import CLIPS, COLUMNS, INDEX, STORED, VERSION, Index, Shard
from training.errors import AudioError, ManifestError


class ShardWriter:
    """Appends clips, and begins another shard before one would exceed `shard_samples`."""

    def __init__(self, folder: Path, shard_samples: int) -> None:
        self._folder = folder
        self._shard_samples = shard_samples
        self._file: BinaryIO | None = None
        self._names: list[str] = []
        self._sizes: list[int] = []

    def append(self, pcm: Pcm) -> tuple[int, int]:
        """The clip's shard and first sample."""
        if self._file is None or self._sizes[-1] + pcm.size > self._shard_samples:
            self._begin()
        assert self._file is not None
        first = self._sizes[-1]
        self._file.write(pcm.astype(STORED, copy=False).tobytes())
        self._sizes[-1] += pcm.size
        return len(self._sizes) - 1, first

    def _begin(self) -> None:
        self.close()
        self._names.append(f"{len(self._names):05}.pcm")
        self._sizes.append(0)
        self._file = (self._folder / self._names[-1]).open("wb")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def shards(self) -> tuple[Shard, ...]:
        return tuple(Shard(name, size) for name, size in zip(self._names, self._sizes, strict=True))


def pack(
    clips: Sequence[Clip],
    folder: Path,
    sample_rate_hz: int,
    *,
    shard_samples: int,
    threads: int = 2,
    advance: Callable[[], object] = lambda: None,
) -> list[AudioError]:
    """Decode every clip into the folder, calling `advance` after each; returns what cannot be read.

    Holds a few clips in memory at a time. Raises ManifestError if the folder holds a pack, if it
    cannot be written, or if under two speakers are readable.
    """
    if (folder / INDEX).exists():
        raise ManifestError(f"{folder} already holds a pack")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _pack(clips, folder, sample_rate_hz, shard_samples, threads, advance)
    except OSError as error:
        raise ManifestError(f"cannot pack into {folder}: {error}") from error


def _pack(
    clips: Sequence[Clip],
    folder: Path,
    sample_rate_hz: int,
    shard_samples: int,
    threads: int,
    advance: Callable[[], object],
) -> list[AudioError]:
    unreadable: list[AudioError] = []
    packed: list[Clip] = []
    digest, writer = Digest(), ShardWriter(folder, shard_samples)
    with (folder / CLIPS).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for clip, pcm in decode_all(clips, sample_rate_hz, threads):
            if isinstance(pcm, AudioError):
                unreadable.append(pcm)
            else:
                place = writer.append(pcm)
                digest.add(clip, pcm)
                packed.append(clip)
                names = (clip.corpus, clip.speaker, clip.session, clip.path.absolute())
                table.writerow([*names, *place, pcm.size])
            advance()
    writer.close()
    require_speakers(packed, "readable audio")
    Index(VERSION, sample_rate_hz, digest.hexdigest(), len(packed), writer.shards).write(folder)
    return unreadable
