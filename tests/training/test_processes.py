"""`sayso-train run` as real processes: killed at any moment, or several of them at once."""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.small_runs import assert_same
from training.__main__ import app
from training.runs import checkpoint

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
STEPS = 12
RECIPE = f"""
[sampling]
speakers = 4
crop_s = [0.4]
held_out_speakers = 0.3
[augmentation]
band_masks = 1
[encoder]
name = "ecapa"
width = 16
groups = 2
embedding_dim = 8
[framework]
name = "moco"
queue = 16
[schedule]
steps = {STEPS}
validate_every = 1
"""

runner = CliRunner()


@pytest.fixture
def arguments(corpus: Path, tmp_path: Path) -> list[str]:
    """Of a run, but for the output folder."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    options = ["--workers", "0", "--threads", "1", "--device", "cpu"]
    return ["run", str(recipe), "--manifest", str(corpus), *options, "--output"]


def finished(arguments: list[str]) -> str:
    """Run in this process; returns what it said."""
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stderr


def test_a_killed_run_goes_on_to_the_same_weights(arguments: list[str], tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    saves = random.randrange(1, STEPS // 2)
    moments = set()
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *arguments, str(killed)],
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )
    while len(moments) < saves and process.poll() is None:
        if (killed / "last.pt").exists():
            moments.add((killed / "last.pt").stat().st_mtime_ns)
        time.sleep(random.random() / 1000)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    step = checkpoint.load(killed / "last.pt").progress.step
    assert 0 < step < STEPS

    finished([*arguments, str(killed), "--resume"])
    finished([*arguments, str(whole)])
    assert_same(checkpoint.load(killed / "last.pt"), checkpoint.load(whole / "last.pt"))


def test_the_line_that_it_prints_makes_it_again(arguments: list[str], tmp_path: Path) -> None:
    one, again = tmp_path / "one", tmp_path / "again"
    text = Path(arguments[1]).read_text(encoding="utf-8")
    Path(arguments[1]).write_text(text.replace(f"steps = {STEPS}", "steps = 3"), encoding="utf-8")
    said = finished([*arguments, str(one)])
    (line,) = (line for line in said.splitlines() if "sayso-train run" in line)
    _, _, command = line.partition(": sayso-train ")
    parts = shlex.split(command, comments=True)
    assert "--resume" not in parts
    finished([str(again) if part == str(one) else part for part in parts])
    kept = checkpoint.load(one / "last.pt")
    assert_same(kept, checkpoint.load(again / "last.pt"))
    assert kept.progress.data_digest[:12] in command
    assert kept.progress.code in command


def test_two_processes_train_one_model(arguments: list[str], tmp_path: Path) -> None:
    text = Path(arguments[1]).read_text(encoding="utf-8")
    Path(arguments[1]).write_text(text.replace(f"steps = {STEPS}", "steps = 4"), encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command = [*launch, *meeting, "-m", "training", *arguments, str(tmp_path / "run")]
    process = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == [str(tmp_path / "run" / "best.pt")]
    assert process.stderr.count("held-out EER") == 4
    assert "torchrun --nproc-per-node 2" in process.stderr
    kept = checkpoint.load(tmp_path / "run" / "last.pt")
    assert kept.progress.step == 4
    assert kept.framework["enqueued"] == 16
