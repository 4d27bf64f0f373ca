from pathlib import Path

import pytest
import typer
from sayso import BatchItem, BatchResult, Enrollment, InvalidArgument

from service.commands.batch import Results
from service.commands.manifest import Row

ROWS = [Row(f"{name}.wav", BatchItem(name, b"")) for name in ("alice", "bob", "carol")]
ENROLLED = BatchResult(0, "alice", Enrollment(True, "enrolled", (), 6.0, 0.0, None))
REFUSED = BatchResult(1, "bob", Enrollment(False, "too noisy", ("LOW_SNR",), 0.0, 5.0, None))
FAILED = BatchResult(2, "carol", error=InvalidArgument("audio: cannot be decoded"))


def names(rows: list[Row]) -> list[str]:
    return [row.item.speaker_id for row in rows]


def test_only_what_is_enrolled_is_done(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with Results(path) as results:
        for row, result in zip(ROWS, (ENROLLED, REFUSED, FAILED), strict=True):
            results.add(row, result)
    with Results(path) as results:
        assert names(results.list_missing(ROWS)) == ["bob", "carol"]
        assert [each["why"] for each in results.list_failures(ROWS)] == [
            "too noisy",
            "audio: cannot be decoded",
        ]
        results.add(ROWS[1], ENROLLED)
    with Results(path) as results:
        assert names(results.list_missing(ROWS)) == ["carol"]


def test_what_was_not_tried_is_missing_and_no_failure(tmp_path: Path) -> None:
    with Results(tmp_path / "results.jsonl") as results:
        assert results.list_missing(ROWS) == ROWS
        assert results.list_failures(ROWS) == []


@pytest.mark.parametrize("kept", [1, 10])
def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "results.jsonl"
    with Results(path) as results:
        results.add(ROWS[0], ENROLLED)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept])
    with Results(path) as results:
        assert names(results.list_missing(ROWS)) == ["bob", "carol"]
        results.add(ROWS[1], ENROLLED)
    with Results(path) as results:
        assert names(results.list_missing(ROWS)) == ["carol"]


@pytest.mark.parametrize("text", ["not JSON\n", "[1]\n", '{"speaker_id": "alice"}\n'])
def test_another_file_is_not_written_to(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(typer.BadParameter, match="no file of results"), Results(path):
        pass
    assert path.read_text() == text
