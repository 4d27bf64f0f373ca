from __future__ import annotations

import os
import pickle
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training import config, encoders
from training.errors import CheckpointError
from training.runs import checkpoint
from training.runs.checkpoint import Checkpoint, Progress

RECIPE = config.parse(
    """
    losses = [{ name = "triplet" }]
    encoder = { name = "ecapa", width = 16, groups = 4, embedding_dim = 8 }
    schedule = { steps = 1 }
    """
)


def made(step: int = 3) -> Checkpoint:
    torch.manual_seed(step)
    encoder, average = encoders.build(RECIPE), encoders.build(RECIPE)
    optimizer = torch.optim.AdamW(encoder.parameters())
    encoder(torch.randn(2, 4000)).sum().backward()
    optimizer.step()
    return Checkpoint(
        recipe=RECIPE,
        progress=Progress(step, 0.25, "digest", 10, 100),
        encoder=encoder.state_dict(),
        average=average.state_dict(),
        framework={},
        optimizer=optimizer.state_dict(),
        random=checkpoint.read_random_state(),
    )


def test_comes_back_whole(tmp_path: Path) -> None:
    saved = made()
    checkpoint.save(tmp_path / "last.pt", saved)
    loaded = checkpoint.load(tmp_path / "last.pt")
    assert (loaded.recipe, loaded.progress) == (saved.recipe, saved.progress)
    for name in ("encoder", "average", "random"):
        before, after = getattr(saved, name), getattr(loaded, name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    moments, moments_again = saved.optimizer["state"], loaded.optimizer["state"]
    assert moments.keys() == moments_again.keys()
    assert all(torch.equal(moments[i]["exp_avg"], moments_again[i]["exp_avg"]) for i in moments)
    assert loaded.optimizer["param_groups"] == saved.optimizer["param_groups"]


def test_infinite_best_survives(tmp_path: Path) -> None:
    fresh = replace(made(), progress=Progress(0, float("inf"), "digest", 10, 100))
    checkpoint.save(tmp_path / "last.pt", fresh)
    assert checkpoint.load(tmp_path / "last.pt").progress.best == float("inf")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, made(3))

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(CheckpointError, match=r"No space.*--resume"):
        checkpoint.save(path, made(4))
    assert checkpoint.load(path).progress.step == 3


def test_the_encoder_to_export_is_the_average_in_evaluation_mode(tmp_path: Path) -> None:
    saved = made()
    checkpoint.save(tmp_path / "best.pt", saved)
    encoder = checkpoint.load_encoder(tmp_path / "best.pt")
    assert not encoder.training
    for key, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, saved.average[key])


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", pickle.dumps({"version": 1}, protocol=2)]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        checkpoint.load(path)


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        checkpoint.load(tmp_path / "none.pt")


def test_another_version_is_refused(tmp_path: Path) -> None:
    torch.save({"version": 99}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="version 99"):
        checkpoint.load(tmp_path / "last.pt")


def test_losses_of_version_1_are_those_of_the_supervised_framework(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, made())
    content = torch.load(path)
    del content["framework"]
    centres = torch.ones(2, 8)
    torch.save({**content, "version": 1, "losses": {"losses.aam_softmax.centres": centres}}, path)
    framework = checkpoint.load(path).framework
    assert framework.keys() == {"objective.losses.aam_softmax.centres"}
    assert torch.equal(*framework.values(), centres)  # type: ignore[call-arg]


def test_a_checkpoint_with_parts_missing_is_refused(tmp_path: Path) -> None:
    torch.save({"version": checkpoint.VERSION}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="recipe"):
        checkpoint.load(tmp_path / "last.pt")


def test_a_run_is_neither_overwritten_nor_mixed_up(tmp_path: Path) -> None:
    assert checkpoint.load_previous(tmp_path, RECIPE, resume=True) is None
    checkpoint.save(tmp_path / "last.pt", made())
    with pytest.raises(CheckpointError, match="--resume"):
        checkpoint.load_previous(tmp_path, RECIPE, resume=False)
    with pytest.raises(CheckpointError, match="another recipe"):
        checkpoint.load_previous(tmp_path, RECIPE.model_copy(update={"seed": 9}), resume=True)
    kept = checkpoint.load_previous(tmp_path, RECIPE, resume=True)
    assert kept is not None
    assert kept.progress.step == 3


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, made())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError):
        checkpoint.load(path)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"version": 1, "recipe": Bomb()}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "last.pt")
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    command = ["unshare", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=16k tmpfs {tmp_path}"
    if subprocess.run([*command, mount], check=False).returncode:
        pytest.skip("no rights to mount a small disk")
    code = f"""
from pathlib import Path
from test_checkpoint import made
from training.runs import checkpoint
from training.errors import CheckpointError
path = Path({str(tmp_path)!r}, "last.pt")
path.write_bytes(b"old")
try:
    checkpoint.save(path, made())
except CheckpointError as error:
    assert "make room and go on with --resume" in str(error), error
    assert [one.name for one in path.parent.iterdir()] == ["last.pt"]
    assert path.read_bytes() == b"old"
    raise SystemExit(7)
"""
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    script = f"{mount} && exec {sys.executable} -c {shlex.quote(code)}"
    ended = subprocess.run([*command, script], env={**os.environ, "PYTHONPATH": here}, check=False)
    assert ended.returncode == 7
