"""`sayso enroll --manifest`: many recordings on one stream, with a result for each."""

from collections.abc import Iterator
from pathlib import Path

import typer
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from sayso import BatchItem, BatchResult, Client

from service.commands import manifest
from service.commands.connection import connect
from service.commands.manifest import Row
from service.commands.results import Outcome, Results
from service.commands.terminal import err, out

_MOST_LISTED = 50


def enroll(
    path: Path, default: BatchItem, *, sample_rate: int | None, results: Path | None, server: str
) -> None:
    """Enroll the rows that `results` does not list as enrolled; exit status 0 if none is left."""
    rows = manifest.read(path, default, sample_rate=sample_rate)
    file = results or path.with_suffix(".results.jsonl")
    with connect(server) as sayso, Results(file) as outcomes:
        missing = outcomes.missing(rows)
        for row, result in _enroll(sayso, missing):
            outcomes.add(row, result)
        failures, left = outcomes.failures(rows), outcomes.missing(rows)
    if failures:
        out.print(_failures_table(failures, file))
    enrolled = f"{len(missing) - len(left)} recordings enrolled, {len(rows) - len(missing)} before"
    trouble = f"; {len(left)} were not, and are tried again by the next run" if left else ""
    out.print(f"{enrolled}{trouble}", highlight=False)
    if left:
        raise typer.Exit(1)


def _enroll(sayso: Client, rows: list[Row]) -> Iterator[tuple[Row, BatchResult]]:
    results = sayso.batch_enroll(row.item for row in rows)
    for result in track(results, "enrolling", total=len(rows), console=err, transient=True):
        yield rows[result.index], result


def _failures_table(failures: list[Outcome], file: Path) -> Table:
    table = Table("speaker", "recording", "status", "why")
    for outcome in failures[:_MOST_LISTED]:
        table.add_row(
            *(escape(str(outcome[name])) for name in ("speaker_id", "path", "status", "why"))
        )
    if len(failures) > _MOST_LISTED:
        table.caption = f"and {len(failures) - _MOST_LISTED} more, in {file}"
    return table
