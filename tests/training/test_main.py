from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.__main__ import app
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
steps = 3
"""

runner = CliRunner()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_run_trains_and_prints_the_best_checkpoint(
    recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    arguments = ["run", str(recipe), "--manifest", str(corpus), "--output", str(output)]
    result = runner.invoke(app, [*arguments, "--workers", "0", "--threads", "1", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(output / "best.pt")
    assert "held-out EER" in result.stderr
    assert checkpoint.load(output / "best.pt").progress.step == 3
    assert {path.name for path in output.glob("*.png")} == {"curves.png", "embeddings.png"}
    again = runner.invoke(app, arguments)
    assert again.exit_code == 2
    assert "--resume" in again.stderr


def test_a_run_stopped_before_its_first_validation_promises_no_best_checkpoint(
    recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    arguments = ["run", str(recipe), "--manifest", str(corpus), "--output", str(output)]
    arguments += ["--workers", "0", "--threads", "1", "--device", "cpu", "--max-minutes", "0"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(output / "last.pt")
    assert (output / "last.pt").exists()
    assert "there is no best checkpoint yet" in result.stderr
    assert "learning from" in result.stderr


def test_ctrl_c_says_how_to_go_on(
    recipe: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    output = tmp_path / "run"
    arguments = ["run", str(recipe), "--manifest", str(corpus), "--output", str(output)]
    arguments += ["--workers", "0", "--threads", "1", "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr("training.commands.run.ConsoleReporter.on_start", interrupt)
        first = runner.invoke(app, arguments)
        assert first.exit_code == 130
        assert f"to begin again: sayso-train {arguments[0]}" in first.stderr

        patch.undo()
        runner.invoke(app, [*arguments, "--max-minutes", "0"])
        patch.setattr("training.commands.run.ConsoleReporter.on_start", interrupt)
        again = runner.invoke(app, [*arguments, "--resume"])
        assert again.exit_code == 130
    (line,) = (line for line in again.stderr.splitlines() if line.startswith("interrupted"))
    assert line.startswith("interrupted; to go on from step 1: sayso-train run ")
    command = shlex.split(line.partition("sayso-train ")[2])
    assert command[-1] == "--resume"
    resumed = runner.invoke(app, command)
    assert resumed.exit_code == 0, resumed.output
    assert checkpoint.load(output / "best.pt").progress.step == 3


@pytest.mark.parametrize(
    ("recipe_text", "manifest_text", "complaint"),
    [
        (RECIPE + "stepz = 1", "", "schedule.stepz"),
        (RECIPE, "path,corpus,speaker,split\n", "at least two speakers"),
    ],
)
def test_errors_are_one_line_and_exit_2(
    tmp_path: Path, recipe_text: str, manifest_text: str, complaint: str
) -> None:
    (tmp_path / "r.toml").write_text(recipe_text, encoding="utf-8")
    (tmp_path / "m.csv").write_text(manifest_text, encoding="utf-8")
    arguments = ["run", str(tmp_path / "r.toml"), "--manifest", str(tmp_path / "m.csv")]
    result = runner.invoke(app, [*arguments, "--output", str(tmp_path / "run")])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert complaint in line
    assert not (tmp_path / "run").exists()


def test_describe_counts_parameters_and_work(recipe: Path) -> None:
    result = runner.invoke(app, ["describe", str(recipe)])
    assert result.exit_code == 0
    assert "parameters" in result.stdout
    assert "MACs" in result.stdout


def test_help_explains_the_units() -> None:
    result = runner.invoke(app, ["run", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0
    for word in ("--max-minutes", "minutes", "--manifest", "noise/ beside the manifest"):
        assert word in result.stdout
