"""The outcome of each recording of a manifest, in a JSON Lines file, so that an interrupted run
continues where it stopped and failures are retried."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TextIO

import typer
from sayso import BatchResult

from service.commands.manifest import Row

ENROLLED, REFUSED, FAILED = "enrolled", "refused", "failed"

Outcome = Mapping[str, Any]


class Results:
    """A context manager over the file: one line an answer; a recording's last line counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[tuple[str, str, int | None], Outcome] = {}

    def __enter__(self) -> Self:
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        try:
            for line in whole.splitlines():
                self._keep(json.loads(line))
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
        outcome = _outcome(row, result)
        self._keep(outcome)
        self._file.write(json.dumps(outcome, ensure_ascii=False) + "\n")
        self._file.flush()
        return outcome

    def missing(self, rows: Iterable[Row]) -> list[Row]:
        """The rows that are not enrolled yet, whether they were tried or not."""
        return [row for row in rows if self._status(row) != ENROLLED]

    def failures(self, rows: Iterable[Row]) -> list[Outcome]:
        return [self._outcomes[row.name] for row in rows if self._status(row) in (REFUSED, FAILED)]

    def _status(self, row: Row) -> str | None:
        return self._outcomes.get(row.name, {}).get("status")

    def _keep(self, outcome: Outcome) -> None:
        name = outcome["speaker_id"], outcome["path"], outcome["channel"]
        self._outcomes[name] = outcome


def _outcome(row: Row, result: BatchResult) -> Outcome:
    speaker_id, path, channel = row.name
    recording = {"speaker_id": speaker_id, "path": path, "channel": channel}
    enrollment = result.enrollment
    if enrollment is None:
        return {**recording, "status": FAILED, "code": result.error_code, "why": result.error}
    return {
        **recording,
        "status": ENROLLED if enrollment.stored else REFUSED,
        "why": enrollment.explanation,
        "reasons": enrollment.reasons,
        "net_speech_s": enrollment.net_speech_s,
        "speech_needed_s": enrollment.speech_needed_s,
        "duplicates": enrollment.duplicates,
    }
