"""The clips of a manifest that `sayso-train spoofs` wrote, with their attacks."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.library import Clip, Library, decode_all
from training.errors import AudioError, ManifestError
from training.spoofs.corpus import BONA_FIDE, LEARNED_SPLIT


@dataclass(frozen=True, slots=True)
class SpoofClips:
    """Clips in order of the manifest; `attacks` are their attacks, `BONA_FIDE` for none."""

    library: Library
    attacks: tuple[str, ...]

    def of(self, chosen: Sequence[int]) -> SpoofClips:
        return SpoofClips(self.library.of(chosen), tuple(self.attacks[i] for i in chosen))


def load(
    manifest: Path,
    sample_rate_hz: int,
    *,
    split: str = LEARNED_SPLIT,
    left_out: Sequence[str] = (),
    advance: Callable[[], object] = lambda: None,
) -> SpoofClips:
    """Decode a split without the attacks that are left out.

    Raises ManifestError if the manifest cannot be read, a clip is broken, or a class is missing.
    """
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            rows = [
                (Clip(manifest.parent / row["path"], row["corpus"],
                      f"{row['corpus']}/{row['speaker']}"), row["attack"])
                for row in csv.DictReader(file)
                if row["split"] == split and row["attack"] not in left_out
            ]  # fmt: skip
    except (OSError, KeyError) as error:
        raise ManifestError(
            f"{manifest} is no manifest of `sayso-train spoofs`: {error!r}"
        ) from error
    attacks = tuple(attack for _, attack in rows)
    if BONA_FIDE not in attacks or len(set(attacks)) < 2:
        raise ManifestError(f"{manifest}, split {split}: it takes bona fide and spoofed clips")
    audio = []
    for clip, pcm in decode_all([clip for clip, _ in rows], sample_rate_hz, 2):
        if isinstance(pcm, AudioError):
            raise ManifestError(f"{clip.path} cannot be used: {pcm}")
        audio.append(pcm)
        advance()
    return SpoofClips(Library(tuple(clip for clip, _ in rows), tuple(audio)), attacks)
