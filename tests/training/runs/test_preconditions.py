"""What can be known to fail is told before any audio is decoded."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.small_runs import recipe_of
from training import encoders
from training.__main__ import app
from training.runs import checkpoint
from training.runs.checkpoint import Checkpoint, Progress

RECIPE = """
seed = 1
losses = [{ name = "info_nce" }]
encoder = { name = "ecapa", width = 16, groups = 4, embedding_dim = 6 }
sampling = { speakers = 4, crop_s = [0.5], held_out_speakers = 0.3 }
schedule = { steps = 2, warmup_steps = 1, validate_every = 2 }
"""


@pytest.fixture(autouse=True)
def nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("audio was decoded before what could be known")

    monkeypatch.setattr("training.commands.data.load_clips", decoded)


def run(folder: Path, manifest: Path, *arguments: str, recipe: str = RECIPE) -> str:
    (folder / "r.toml").write_text(recipe, encoding="utf-8")
    command = ["run", str(folder / "r.toml"), "--manifest", str(manifest), "--device", "cpu"]
    if "--output" not in arguments:
        command += ["--output", str(folder / "run")]
    result = CliRunner().invoke(app, [*command, *arguments])
    assert result.exit_code == 2, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    return line


def rows(folder: Path, *rows: str) -> Path:
    path = folder / "m.csv"
    path.write_text("\n".join(["path,corpus,speaker,split", *rows]), encoding="utf-8")
    return path


def test_speakers_with_one_clip_each(tmp_path: Path) -> None:
    manifest = rows(tmp_path, *(f"{i}.wav,x,{i},train" for i in range(40)))
    assert "has two clips to compare" in run(tmp_path, manifest)


def test_a_corpus_for_each_speaker(tmp_path: Path) -> None:
    manifest = rows(tmp_path, *(f"{i}.wav,{i // 2},{i // 2},train" for i in range(80)))
    assert "no corpus has two of the" in run(tmp_path, manifest)


def test_an_output_that_cannot_be_written(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    said = run(tmp_path, corpus, "--output", str(tmp_path / "file" / "run"))
    assert "cannot write into the folder" in said


def test_a_distillation_without_targets(corpus: Path, tmp_path: Path) -> None:
    for loss in ("distillation", "relational"):
        recipe = RECIPE.replace("info_nce", loss)
        assert "needs the targets" in run(tmp_path, corpus, recipe=recipe)


def test_a_start_from_another_encoder(corpus: Path, tmp_path: Path) -> None:
    other = recipe_of('[[losses]]\nname = "info_nce"')
    encoder = encoders.build(other).state_dict()
    progress = Progress(1, 0.5, "", 2, 2)
    kept = Checkpoint(other, progress, encoder, encoder, {}, {}, checkpoint.read_random_state())
    checkpoint.save(tmp_path / "other.pt", kept)
    said = run(tmp_path, corpus, "--start-from", str(tmp_path / "other.pt"))
    assert "has another encoder than the recipe" in said


def test_a_teacher_that_is_none(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    command = ["teach", str(tmp_path / "junk.onnx"), str(tmp_path / "r.toml")]
    command += ["--manifest", str(corpus), "--output", str(tmp_path / "targets.npz")]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, "cannot be loaded as a teacher" in result.stderr) == (2, True)
