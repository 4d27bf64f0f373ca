from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.small_runs import recipe_of, run_training
from training.data.library import Library
from training.errors import CheckpointError
from training.runs import checkpoint, comparison

LOSSES = '[[losses]]\nname = "info_nce"\n[[losses]]\nname = "triplet"\nweight = 0.3\n'


@pytest.fixture(scope="module")
def folder(sittings: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_training(recipe_of(LOSSES, steps="20"), sittings, folder)
    return folder


def test_a_run_is_summed_up(folder: Path, sittings: Library) -> None:
    found, kept = comparison.read(folder), checkpoint.load(folder / "last.pt")
    assert found.encoder == "ecapa width=32 groups=4 stride=2 embedding_dim=32"
    assert (found.losses, found.framework) == ("info_nce + 0.3 triplet", "supervised")
    assert (found.steps, found.planned_steps, found.best_step, found.seed) == (20, 20, 20, 5)
    assert found.data_digest == sittings.digest()
    assert found.eer_recorded is not None
    assert found.eer_crossed is not None
    mean = (found.eer_recorded + found.eer_crossed) / 2
    assert mean == pytest.approx(kept.progress.best, abs=1e-6)
    assert found.clips_per_s is not None
    assert found.clips_per_s > 0


def test_a_checkpoint_without_scalars_leaves_them_unknown(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes((folder / "last.pt").read_bytes())
    bare = comparison.read(tmp_path)
    assert (bare.best_step, bare.eer_recorded, bare.clips_per_s) == (None, None, None)
    with pytest.raises(CheckpointError):
        comparison.read(tmp_path / "none")


@pytest.mark.parametrize(
    ("changed", "same"), [({"seed": "6"}, False), ({"room": "0.5"}, False), ({"width": "64"}, True)]
)
def test_trials_are_those_of_the_data_the_channels_and_the_seed(
    folder: Path, changed: dict[str, str], same: bool
) -> None:
    kept = checkpoint.load(folder / "last.pt")
    other = replace(kept, recipe=recipe_of(LOSSES, **changed))
    assert (comparison.trials(other) == comparison.trials(kept)) is same
