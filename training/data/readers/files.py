"""Audio files and word lists below a root folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from training.data.manifest import Row
from training.data.text_files import read_text
from training.errors import ManifestError

FOREIGN_SUFFIXES = frozenset(
    {".m4a", ".mp4", ".aac", ".amr", ".wma", ".webm", ".mka", ".sph", ".3gp", ".ac3"}
)
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})


def list_audio_files(root: Path, depth: int) -> Iterator[Path]:
    """Absolute paths below the root, sorted folder by folder, with `depth` folders or more in them.

    Links to folders are followed: corpora are often gathered by links. Raises ManifestError for a
    name that is not UTF-8, which no manifest can hold.
    """
    for folder, below, names in os.walk(root.absolute(), followlinks=True):
        below.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix.lower() in SUFFIXES and len(path.parents) > depth:
                yield _require_utf8(path)


def _require_utf8(path: Path) -> Path:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ManifestError(
            f"the file name {os.fsencode(path)!r} is not UTF-8; rename it (convmv does)"
        ) from error
    return path


def count_unread(root: Path, rows: Iterable[Row]) -> Counter[str]:
    """Count the recordings below the root that no reader opens, by suffix.

    Those converted beside themselves are not counted.
    """
    converted = {row.path.absolute().with_suffix("") for row in rows}
    return Counter(
        suffix
        for folder, _, names in os.walk(root.absolute(), followlinks=True)
        for name in names
        if (suffix := Path(name).suffix.lower()) in FOREIGN_SUFFIXES
        and Path(folder, name).with_suffix("") not in converted
    )


def split_fields(path: Path, count: int) -> list[list[str]]:
    """The words of each line, split at white space into at most `count`; ManifestError if fewer."""
    lines = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split(maxsplit=count - 1)
        if len(words) < count:
            raise ManifestError(f"{path} line {number} has fewer than {count} fields")
        lines.append(words)
    return lines
