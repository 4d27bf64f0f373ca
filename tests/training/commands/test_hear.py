from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console
from typer.testing import CliRunner

from training.__main__ import app
from training.commands import terminal

RECIPE = """
[sampling]
speeds = [1.0, 0.9]
[augmentation]
band_masks = 1
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
MIXED = ["noise", "babble"]
ALONE = ["room", "equaliser", "level", "telephone", "chain", "speed-0.9"]

runner = CliRunner()


@pytest.fixture
def arguments(corpus: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    clip, recipe = str(corpus.parent / "0-0.wav"), str(tmp_path / "tiny.toml")
    return ["hear", clip, "--recipe", recipe, "--output", str(tmp_path / "heard")]


def written(folder: Path, suffix: str) -> set[str]:
    return {path.stem for path in (folder / "heard").glob(f"*{suffix}")}


def test_every_stage_is_written_with_its_picture(arguments: list[str], tmp_path: Path) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert written(tmp_path, ".wav") == {"before", *ALONE}
    assert written(tmp_path, ".png") == {"masks", *ALONE}
    before, rate_hz = soundfile.read(tmp_path / "heard" / "before.wav")
    assert rate_hz == 16000
    for name in ALONE[:-1]:
        after, _ = soundfile.read(tmp_path / "heard" / f"{name}.wav")
        assert after.shape == before.shape
        assert not np.array_equal(after, before)
    slower, _ = soundfile.read(tmp_path / "heard" / "speed-0.9.wav")
    assert slower.size == pytest.approx(before.size / 0.9, abs=2)


def test_voices_and_noises_of_a_manifest_are_mixed_in(
    arguments: list[str], corpus: Path, tmp_path: Path
) -> None:
    result = runner.invoke(
        app, [*arguments, "--manifest", str(corpus), "--noise", str(corpus.parent)]
    )
    assert result.exit_code == 0, result.output
    assert written(tmp_path, ".wav") == {"before", *MIXED, *ALONE}


def test_a_terminal_shows_how_far_it_is(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=screen, force_terminal=True, width=120))
    assert runner.invoke(app, arguments).exit_code == 0
    count = len(ALONE) + 1  # with the masks
    assert f"{count}/{count}" in screen.getvalue()


@pytest.mark.parametrize("stage", ["drift", "codec", "telephone"])
def test_one_stage_alone_even_if_the_recipe_has_it_off(
    arguments: list[str], tmp_path: Path, stage: str
) -> None:
    heard = []
    for seed in ("1", "1", "2"):
        result = runner.invoke(app, [*arguments, "--only", stage, "--seed", seed])
        assert result.exit_code == 0, result.output
        assert written(tmp_path, ".wav") == {"before", stage}
        heard.append((tmp_path / "heard" / f"{stage}.wav").read_bytes())
    assert heard[0] == heard[1]
    assert heard[0] != heard[2]


@pytest.mark.parametrize("stage", ["babble", "echo"])
def test_a_stage_that_cannot_be_heard_is_an_error(arguments: list[str], stage: str) -> None:
    result = runner.invoke(app, [*arguments, "--only", stage])
    assert result.exit_code == 2
    assert f"no stage '{stage}'" in result.stderr


def test_a_clip_that_is_no_audio_is_an_error(arguments: list[str], tmp_path: Path) -> None:
    arguments[1] = str(tmp_path / "tiny.toml")
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert "tiny.toml: cannot be read" in result.stderr
