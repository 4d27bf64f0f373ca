from __future__ import annotations

from pathlib import Path

import pytest

from training.data import manifest
from training.data.manifest import Row
from training.errors import ManifestError


def test_rows_are_written_relative_to_the_manifest_and_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    rows = [
        Row(tmp_path / "audio" / "a, b.wav", "x", "1", "train", "monday"),
        Row(folder / "c.wav", "y", "zwölf", "dev"),
    ]
    manifest.write(folder / "manifest.csv", rows)
    text = (folder / "manifest.csv").read_text(encoding="utf-8").splitlines()
    assert text[0] == "path,corpus,speaker,split,session"
    assert text[1] == '"../audio/a, b.wav",x,1,train,monday'
    assert [(r.path.resolve(), r.speaker) for r in manifest.read(folder / "manifest.csv")] == [
        (row.path, row.speaker) for row in rows
    ]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ManifestError, match="cannot write"):
        manifest.write(tmp_path / "file" / "manifest.csv", [])
