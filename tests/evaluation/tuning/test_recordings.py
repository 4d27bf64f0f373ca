"""Recordings to tune on: a folder, or a manifest that need not say who speaks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.errors import EvaluationError
from evaluation.tuning import recordings


def test_a_folder_is_of_unknown_speakers(tmp_path: Path) -> None:
    (tmp_path / "monday").mkdir()
    for name in ("monday/b.WAV", "a.flac", "notes.txt"):
        (tmp_path / name).touch()
    found = recordings.read(tmp_path)
    assert [clip.name for clip in found.unlabelled] == ["a.flac", "monday/b.WAV"]
    assert found.labelled == ()


def test_rows_without_a_speaker_are_unlabelled(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.wav").touch()
    calls = tmp_path / "calls.csv"
    calls.write_text("path,speaker,session\na.wav,ann,1\nb.wav,,\nc.wav,ann,2\n")
    found = recordings.read(calls)
    assert [clip.name for clip in found.labelled] == ["a.wav", "c.wav"]
    assert found.labelled[0].labels == {"session": "1"}
    assert [clip.name for clip in found.unlabelled] == ["b.wav"]
    calls.write_text("path\na.wav\n")
    assert [clip.name for clip in recordings.read(calls).unlabelled] == ["a.wav"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "name a folder of recordings"),
        (lambda path: path.mkdir(), "holds no .flac, .mp3"),
        (lambda path: path.write_text("speaker\nann\n"), "calls:1: there is no column 'path'"),
        (lambda path: path.write_text("path\nlost.wav\n"), "calls:2: .*lost.wav is missing"),
        (lambda path: path.write_text("path\n"), "there is no clip"),
    ],
)
def test_what_cannot_be_read_is_said(
    make: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "calls")
    with pytest.raises(EvaluationError, match=said):
        recordings.read(tmp_path / "calls")
