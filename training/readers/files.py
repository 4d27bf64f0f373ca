"""Audio files and word lists below a root folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from training.errors import ManifestError

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})


def audio_files(root: Path, depth: int) -> Iterator[Path]:
    """Absolute paths below the root, sorted folder by folder, with `depth` folders or more in them.

    Links to folders are followed: corpora are often gathered by links.
    """
    for folder, below, names in os.walk(root.absolute(), followlinks=True):
        below.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix.lower() in SUFFIXES and len(path.parents) > depth:
                yield path


def fields(path: Path, count: int) -> list[list[str]]:
    """The words of each line, split at white space into at most `count`; ManifestError if fewer."""
    lines = []
    for number, line in enumerate(text(path).splitlines(), start=1):
        words = line.split(maxsplit=count - 1)
        if len(words) < count:
            raise ManifestError(f"{path} line {number} has fewer than {count} fields")
        lines.append(words)
    return lines


def text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"cannot read {path}: {error}") from error
