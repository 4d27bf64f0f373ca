"""A manifest: the clips of a corpus, one a row, as CSV (or TSV, by the file's name).

Columns `path` (relative to the manifest) and `speaker` are needed; `corpus` and `split` are used
where present; any other column, such as `gender` or `session`, becomes a label to break down by.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError, ListError
from evaluation.trials import text

_OWN_COLUMNS = ("path", "speaker", "corpus", "split")


@dataclass(frozen=True, slots=True, order=True)
class Speaker:
    """A person. Corpora number their speakers alike, so a name needs its corpus."""

    corpus: str
    name: str

    def __str__(self) -> str:
        return f"{self.corpus}/{self.name}" if self.corpus else self.name


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: its `name` in lists, its `file`, and its `line` in the manifest."""

    name: str
    file: Path
    speaker: Speaker
    labels: Mapping[str, str] = field(default_factory=dict)
    line: int = field(default=0, compare=False)

    @property
    def corpus(self) -> str:
        return self.speaker.corpus


def speaker_numbers(clips: Sequence[Clip]) -> NDArray[np.intp]:
    """Number the speaker of each clip, (clips,), in the order of the speakers."""
    numbers = {one: place for place, one in enumerate(sorted({clip.speaker for clip in clips}))}
    return np.array([numbers[clip.speaker] for clip in clips], np.intp)


def shared_speaker(some: Sequence[Clip], others: Sequence[Clip]) -> Speaker | None:
    """The first speaker with clips in both; None if there is none."""
    return min({clip.speaker for clip in some} & {clip.speaker for clip in others}, default=None)


def read(path: Path, split: str | None = None, *, anonymous: bool = False) -> tuple[Clip, ...]:
    """Read the clips of `split` (None: all); ListError on a bad line or a missing file.

    If `anonymous`, the column speaker may be missing or blank: such a clip's speaker has no name.
    """
    clips = tuple(_read_rows(path, split, anonymous))
    if not clips:
        wanted = f" of split {split!r}" if split else ""
        raise EvaluationError(f"{path}: there is no clip{wanted} in it")
    return clips


def _read_rows(path: Path, split: str | None, anonymous: bool) -> Iterator[Clip]:
    seen: dict[str, int] = {}
    reader = csv.DictReader(
        text.read_lines(path), delimiter="\t" if ".tsv" in path.suffixes else ","
    )
    columns = reader.fieldnames or []
    for needed in ("path", *([] if anonymous else ["speaker"]), *(["split"] if split else [])):
        if needed not in columns:
            raise ListError(path, 1, f"there is no column {needed!r}")
    for row in reader:
        line = reader.line_num
        if None in row:
            raise ListError(path, line, f"there are more than {len(columns)} columns")
        values = {key: (row[key] or "").strip() for key in columns}
        name, speaker = values["path"], values.get("speaker", "")
        if not name or not (speaker or anonymous):
            raise ListError(path, line, "path or speaker is empty")
        if name in seen:
            raise ListError(path, line, f"{name} is already on line {seen[name]}")
        seen[name] = line
        if split and values["split"] != split:
            continue
        file = path.parent / name
        if not file.is_file():
            raise ListError(path, line, f"{file} is missing")
        labels = {key: value for key, value in values.items() if key not in _OWN_COLUMNS}
        yield Clip(name, file, Speaker(values.get("corpus", ""), speaker), labels, line)
