"""`sayso enroll --manifest`: many recordings on one stream, with a result for each.

The results are kept in a JSON Lines file, so that an interrupted run continues where it stopped and
failures are retried.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TextIO

import typer
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from sayso import BatchItem, BatchResult, Client

from service.commands import manifest
from service.commands.manifest import Row
from service.commands.options import connect
from service.commands.terminal import err, out, print_json, say, warn

ENROLLED, REFUSED, FAILED = "enrolled", "refused", "failed"
SENT, SKIPPED = "sent", "skipped"  # there is no answer yet, or it was not asked for

MAX_FILE_BYTES = 16 * 2**20
"""The most that a server takes in one recording, unless it is set up otherwise."""

Outcome = Mapping[str, Any]


class Results:
    """The file of results, as a context manager: one line for each answer. The last line of a
    recording counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[tuple[str, str, int | None], Outcome] = {}
        self._writing = threading.Lock()  # what is sent is noted by the thread that sends it

    def __enter__(self) -> Self:
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        try:
            for line in whole.splitlines():
                self._store(json.loads(line))
        except (ValueError, LookupError, TypeError) as error:
            problem = f"{self._path} is no file of results; name another"
            raise typer.BadParameter(problem, param_hint="--results") from error
        self._file: TextIO = self._path.open("a", encoding="utf-8")
        self._file.truncate(len(whole))
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: Row, result: BatchResult) -> Outcome:
        """Append a result; it is written on return."""
        return self._write(_make_outcome(row, result))

    def note_sent(self, row: Row) -> None:
        """Note that a recording is about to be sent, lest its answer be lost."""
        self._write({**_name(row), "status": SENT})

    def skip(self, row: Row, why: str) -> Outcome:
        """Note that a recording was not sent; the next run sees again whether it is."""
        return self._write({**_name(row), "status": SKIPPED, "why": why})

    def list_missing(self, rows: Iterable[Row]) -> list[Row]:
        """List the rows that are not enrolled yet, whether they were tried or not."""
        return [row for row in rows if not self.is_enrolled(row)]

    def list_failures(self, rows: Iterable[Row]) -> list[Outcome]:
        """List the outcomes of the rows that were refused or failed."""
        return [self._outcomes[row.name] for row in rows if self._status(row) in (REFUSED, FAILED)]

    def is_enrolled(self, row: Row) -> bool:
        """Whether a run has enrolled the recording."""
        return self._status(row) == ENROLLED

    def is_sent(self, row: Row) -> bool:
        """Whether a run has enrolled the recording, or may have."""
        return self._status(row) in (SENT, ENROLLED)

    def _write(self, outcome: Outcome) -> Outcome:
        with self._writing:
            self._store(outcome)
            self._file.write(json.dumps(outcome, ensure_ascii=False) + "\n")
            self._file.flush()
        return outcome

    def _status(self, row: Row) -> str | None:
        return self._outcomes.get(row.name, {}).get("status")

    def _store(self, outcome: Outcome) -> None:
        name = outcome["speaker_id"], outcome["path"], outcome["channel"]
        self._outcomes[name] = outcome


def _name(row: Row) -> dict[str, Any]:
    speaker_id, path, channel = row.name
    recording = {"speaker_id": speaker_id, "path": path, "channel": channel}
    return recording | ({"request_id": row.request_id} if row.request_id else {})


def _make_outcome(row: Row, result: BatchResult) -> Outcome:
    recording = _name(row)
    enrollment = result.enrollment
    if enrollment is None:
        assert result.error is not None, "a result is an enrollment or an error"
        code, why = result.error.code.name, result.error.message
        return {**recording, "status": FAILED, "code": code, "why": why}
    return {
        **recording,
        "status": ENROLLED if enrollment.stored else REFUSED,
        "why": enrollment.explanation,
        "reasons": enrollment.reasons,
        "net_speech_s": enrollment.net_speech_s,
        "speech_needed_s": enrollment.speech_needed_s,
        "duplicates": enrollment.duplicates,
        "watchlists": sorted({match.group for match in enrollment.watchlist_matches}),
    }


_MOST_LISTED = 50


def enroll(
    path: Path,
    default: BatchItem,
    *,
    sample_rate: int | None,
    results: Path | None,
    server: str,
    as_json: bool,
) -> None:
    """Enroll the rows that `results` does not list as enrolled; exit status 0 if none is left.

    JSON is the outcome of each row that this run tried, and the summary goes to standard error.
    """
    rows = manifest.read(path, default, sample_rate=sample_rate)
    file = results or path.with_suffix(".results.jsonl")
    with connect(server) as sayso, Results(file) as outcomes:
        missing = outcomes.list_missing(rows)
        try:
            for row, result in send(sayso, missing):
                outcome = outcomes.add(row, result)
                if as_json:
                    print_json(outcome)
        except KeyboardInterrupt:
            warn(f"interrupted: the same command goes on with what {file} does not list yet")
            raise
        failures, left = outcomes.list_failures(rows), outcomes.list_missing(rows)
    if failures and not as_json:
        out.print(make_failures_table(failures, file))
    enrolled = f"{len(missing) - len(left)} recordings enrolled, {len(rows) - len(missing)} before"
    trouble = f"; {len(left)} were not, and are tried again by the next run" if left else ""
    (warn if as_json else say)(f"{enrolled}{trouble}")
    if left:
        raise typer.Exit(1)


def send(
    sayso: Client,
    rows: list[Row],
    note_sent: Callable[[Row], None] | None = None,
    *,
    max_item_bytes: int = MAX_FILE_BYTES,
) -> Iterator[tuple[Row, BatchResult]]:
    """Enroll recordings on one stream; yields the result of each as it is known."""

    def take_items() -> Iterator[BatchItem]:
        for row in rows:
            if note_sent is not None:
                note_sent(row)
            yield row.item

    results = sayso.batch_enroll(take_items(), max_item_bytes=max_item_bytes)
    for result in track(results, "enrolling", total=len(rows), console=err, transient=True):
        yield rows[result.index], result


def make_failures_table(failures: list[Outcome], file: Path) -> Table:
    table = Table("speaker", "recording", "status", "why")
    for outcome in failures[:_MOST_LISTED]:
        table.add_row(
            *(escape(str(outcome[name])) for name in ("speaker_id", "path", "status", "why"))
        )
    if len(failures) > _MOST_LISTED:
        table.caption = f"and {len(failures) - _MOST_LISTED} more, in {file}"
    return table
