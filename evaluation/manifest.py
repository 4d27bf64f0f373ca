"""A manifest: the clips of a corpus, one a row, as CSV (or TSV, by the file's name).

Columns `path` (relative to the manifest) and `speaker` are needed; `corpus` and `split` are used
where present; any other column, such as `gender` or `session`, becomes a label to break down by.
"""

import csv
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from evaluation.errors import EvaluationError, ListError

_OWN_COLUMNS = ("path", "speaker", "corpus", "split")


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: `name` as its list has it, `file` where it lies."""

    name: str
    file: Path
    speaker: str
    corpus: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def read(path: Path, split: str | None = None) -> tuple[Clip, ...]:
    """The clips of `split` (all when None); ListError on a bad line or a missing file."""
    clips = tuple(_rows(path, split))
    if not clips:
        wanted = f" of split {split!r}" if split else ""
        raise EvaluationError(f"{path}: there is no clip{wanted} in it")
    return clips


def _rows(path: Path, split: str | None) -> Iterator[Clip]:
    seen: dict[str, int] = {}
    with opened(path) as stream:
        reader = csv.DictReader(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        columns = reader.fieldnames or []
        for needed in ("path", "speaker", *(["split"] if split else [])):
            if needed not in columns:
                raise ListError(path, 1, f"there is no column {needed!r}")
        for row in reader:
            name, line = row["path"], reader.line_num
            if not name or not row["speaker"]:
                raise ListError(path, line, "path or speaker is empty")
            if name in seen:
                raise ListError(path, line, f"{name} is already on line {seen[name]}")
            seen[name] = line
            if split and row["split"] != split:
                continue
            file = path.parent / name
            if not file.is_file():
                raise ListError(path, line, f"{file} is missing")
            labels = {key: row[key] or "" for key in columns if key not in _OWN_COLUMNS}
            yield Clip(name, file, row["speaker"], row.get("corpus") or "", labels)


def opened(path: Path) -> TextIO:
    """A list opened for reading, also a gzip-compressed one; EvaluationError when it cannot be."""
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise EvaluationError(f"{path}: {error.strerror}") from error
