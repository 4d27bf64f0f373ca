"""The plain manifest: one clip a row, as CSV."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from training.data.text_files import read_text
from training.errors import ManifestError

COLUMNS = ("path", "corpus", "speaker", "split")
NEEDED = ("path", "speaker")
SESSION = "session"


@dataclass(frozen=True, slots=True)
class Row:
    """A recording as its manifest lists it; `session` is "" if unknown."""

    path: Path
    corpus: str
    speaker: str
    split: str
    session: str = ""


def read(path: Path) -> list[Row]:
    """Read a manifest; paths are relative to its folder, and the column `session` may be missing.

    Raises ManifestError if it cannot be read, lacks another column, or leaves a path or a speaker
    blank.
    """
    try:
        return _rows(csv.DictReader(io.StringIO(read_text(path), newline="")), path)
    except csv.Error as error:
        raise ManifestError(f"cannot read the manifest {path}: {error}") from error


def _rows(reader: csv.DictReader[str], path: Path) -> list[Row]:
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ManifestError(f"{path} has no column {', '.join(missing)}")
    rows = []
    for row in reader:
        if any(row[name] is None for name in COLUMNS):
            raise ManifestError(f"{path} line {reader.line_num} has too few columns")
        for name in NEEDED:
            if not row[name].strip():
                raise ManifestError(f"{path} line {reader.line_num} leaves the {name} blank")
        file, corpus, speaker, split = (row[name] for name in COLUMNS)
        rows.append(Row(path.parent / file, corpus, speaker, split, row.get(SESSION) or ""))
    return rows


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows with paths relative to the manifest's folder; ManifestError if it cannot be
    written."""
    folder = path.parent.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, SESSION])
            for row in rows:
                name = Path(os.path.relpath(row.path.resolve(), folder)).as_posix()
                writer.writerow([name, row.corpus, row.speaker, row.split, row.session])
    except (OSError, UnicodeEncodeError) as error:
        raise ManifestError(f"cannot write the manifest {path}: {error}") from error
