"""The recordings to tune on: a folder, or a manifest that may say who speaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import EvaluationError
from evaluation.trials import manifest
from evaluation.trials.manifest import Clip, Speaker

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})


@dataclass(frozen=True, slots=True)
class Recordings:
    """Clips whose speaker is known, and clips whose speaker is not."""

    labelled: tuple[Clip, ...]
    unlabelled: tuple[Clip, ...]

    @property
    def clips(self) -> tuple[Clip, ...]:
        return self.labelled + self.unlabelled


def read(path: Path, split: str | None = None) -> Recordings:
    """Read the recordings of a folder, or those of `split` (None: all) in a manifest.

    Raises EvaluationError if there are none, ListError for a bad line.
    """
    if path.is_dir():
        return Recordings((), _list_folder(path))
    if not path.is_file():
        raise EvaluationError(
            f"there is no {path}: name a folder of recordings, or a CSV with a column path and,"
            " where known, speaker and session"
        )
    clips = manifest.read(path, split, anonymous=True)
    return Recordings(
        tuple(clip for clip in clips if clip.speaker.name),
        tuple(clip for clip in clips if not clip.speaker.name),
    )


def _list_folder(folder: Path) -> tuple[Clip, ...]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise EvaluationError(f"{folder} holds no {', '.join(sorted(SUFFIXES))} files")
    return tuple(Clip(str(path.relative_to(folder)), path, Speaker("", "")) for path in files)
