from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.__main__ import app
from training.data import manifest
from training.data.manifest import Row
from training.runs import checkpoint

RECIPE = """
[sampling]
speakers = 4
crop_s = [0.4]
held_out_speakers = 0.3
[encoder]
name = "ecapa"
width = 16
groups = 2
embedding_dim = 8
[[losses]]
name = "info_nce"
[schedule]
steps = 2
"""

runner = CliRunner()


def rewritten(corpus: Path, path: Path, split_of_last: str) -> Path:
    *rows, last = manifest.read(corpus)
    manifest.write(path, [*rows, Row(last.path, last.corpus, last.speaker, split_of_last)])
    return path


def test_manifest_of_a_layout(tmp_path: Path) -> None:
    for name in ("19/198/19-198-0001.flac", "26/495/26-495-0001.flac"):
        (tmp_path / "train-clean-100" / name).parent.mkdir(parents=True)
        (tmp_path / "train-clean-100" / name).write_bytes(b"")
    output = tmp_path / "manifest.csv"
    arguments = ["manifest", str(tmp_path), "--layout", "librispeech", "--output", str(output)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(output)
    assert "2 clips of 2 speakers" in result.stderr
    assert [row.session for row in manifest.read(output)] == ["198", "495"]


def test_manifest_of_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    arguments = ["manifest", str(tmp_path), "--layout", "voxceleb", "--output", "none.csv"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: no clip of the layout voxceleb")


def test_inspect_prints_a_table(corpus: Path) -> None:
    result = runner.invoke(app, ["inspect", str(corpus)])
    assert result.exit_code == 0, result.output
    for line in ("96", "made: 96", "16000 Hz: 96", "4 4 4 4 4"):
        assert line in result.stdout


def test_inspect_ends_with_an_error_when_a_speaker_is_in_two_splits(
    corpus: Path, tmp_path: Path
) -> None:
    path = rewritten(corpus, tmp_path / "manifest.csv", "dev")
    result = runner.invoke(app, ["inspect", str(path), "--json", "--short-s", "10"])
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["speakers_across_splits"] == {"made/s23": ["dev", "train"]}
    assert len(found["too_short"]) == 96
    assert "error: 1 speakers are in more than one split" in result.stderr
    result = runner.invoke(app, ["inspect", str(path), "--short-s", "10"])
    assert "in several splits: made/s23: dev, train" in result.stderr
    assert "86 more" in result.stderr


def test_a_pack_is_trained_on_as_its_manifest_is(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    packed = runner.invoke(app, ["pack", str(corpus), "--output", str(tmp_path / "pack")])
    assert packed.exit_code == 0, packed.output
    kept = []
    for source in (corpus, tmp_path / "pack"):
        output = tmp_path / f"run-{source.name}"
        arguments = ["run", str(tmp_path / "tiny.toml"), "--manifest", str(source)]
        options = ["--output", str(output), "--workers", "0", "--threads", "1", "--device", "cpu"]
        result = runner.invoke(app, arguments + options)
        assert result.exit_code == 0, result.output
        kept.append(checkpoint.load(output / "last.pt"))
    unpacked, of_pack = kept
    assert of_pack.progress.data_digest == unpacked.progress.data_digest
    assert of_pack.progress.best == pytest.approx(unpacked.progress.best)
    for name, weights in unpacked.encoder.items():
        assert weights.equal(of_pack.encoder[name]), name
