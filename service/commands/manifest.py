"""Read the recordings to enroll from a CSV file: `speaker_id,path` and optional columns."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import typer
from sayso import BatchItem, RawAudio

REQUIRED = ("speaker_id", "path")
OPTIONAL = ("consent", "channel", "encoding", "sample_rate")


@dataclass(frozen=True, slots=True)
class Row:
    """A recording: its path in the manifest, and the item that is sent. Rows with the same `name`
    are one recording. `request_id` is what the document of another service calls the request."""

    path: str
    item: BatchItem
    request_id: str = ""

    @property
    def name(self) -> tuple[str, str, int | None]:
        return self.item.speaker_id, self.path, self.item.channel

    def replacing(self) -> "Row":
        """The same recording, enrolled in place of the voice that is there."""
        return replace(self, item=replace(self.item, replace=True))


def read(manifest: Path, default: BatchItem, *, sample_rate: int | None) -> list[Row]:
    """Read the rows; paths are relative to the file, `default` fills in what a row leaves out.

    Raises `typer.BadParameter` that names the file and the line.
    """
    try:
        text = manifest.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _make_error(f"{manifest}: is not UTF-8; save it as UTF-8") from error
    table = csv.DictReader(io.StringIO(text, newline=""))
    rows = []
    try:
        _check_columns(table.fieldnames or ())
        for cells in table:
            rows.append(_parse_row(manifest.parent, cells, default, sample_rate))
    except ValueError as error:
        raise _make_error(f"{manifest}, line {table.line_num}: {error}") from error
    return list({row.name: row for row in rows}.values())


def _parse_row(
    folder: Path, cells: Mapping[str, str], default: BatchItem, sample_rate: int | None
) -> Row:
    if not all(isinstance(cells.get(name), str) for name in cells) or not all(
        cells[name] for name in REQUIRED
    ):
        raise ValueError("a row has as many cells as the header, the first two filled")
    item = replace(
        default,
        speaker_id=cells["speaker_id"],
        audio=folder / cells["path"],
        raw=_parse_raw(cells, default.raw, sample_rate),
        channel=int(cells["channel"]) if cells.get("channel") else default.channel,
        consent=cells.get("consent") or default.consent,
    )
    return Row(cells["path"], item)


def _parse_raw(
    cells: Mapping[str, str], default: RawAudio | None, sample_rate: int | None
) -> RawAudio | None:
    encoding = cells.get("encoding") or (default and default.encoding)
    if not encoding:
        return None
    rate = cells.get("sample_rate") or sample_rate
    if not rate:
        raise ValueError("raw samples need a sample_rate, in a column or as --sample-rate")
    return RawAudio(encoding, int(rate))


def _check_columns(names: Iterable[str]) -> None:
    given = set(names)
    for name in REQUIRED:
        if name not in given:
            raise ValueError(f"there is no column {name}")
    if unknown := sorted(given.difference(REQUIRED, OPTIONAL)):
        raise ValueError(f"{unknown[0]!r} is no column of {', '.join((*REQUIRED, *OPTIONAL))}")


def _make_error(problem: str) -> typer.BadParameter:
    return typer.BadParameter(problem, param_hint="--manifest")
