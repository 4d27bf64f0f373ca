"""A whole training on made voices: it learns, it resumes bit for bit, it stops in time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.small_runs import (
    CPU,
    Listener,
    assert_same,
    error_of_untrained,
    recipe_of,
    run_training,
)
from training import config
from training.config import Schedule
from training.data.library import Library, load_clips, read_manifest
from training.encoders import SpeakerEncoder
from training.errors import CheckpointError, DivergenceError
from training.frontends.log_mel import LogMel
from training.learner import follow, has_same_voices, make_learner
from training.runs import checkpoint
from training.runs.material import prepare
from training.runs.validation import Errors, Validation
from training.train import Limits, compute_learning_rate

LOSSES = """
[[losses]]
name = "aam_softmax"
[[losses]]
name = "info_nce"
[[losses]]
name = "triplet"
"""
RECIPE = recipe_of(LOSSES)


@pytest.fixture(scope="module")
def library(corpus: Path) -> Library:
    return load_clips(read_manifest(corpus), 16000)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_learns_and_resumes_bit_for_bit(library: Library, tmp_path: Path) -> None:
    listener = run_training(RECIPE, library, tmp_path / "whole")
    assert listener.losses[-1] < 0.5 * listener.losses[0]
    untrained = error_of_untrained(RECIPE, library)
    assert listener.errors[-1].crossed < min(0.1, 0.5 * untrained.crossed)

    for stop in (13, 40, None):
        run_training(RECIPE, library, tmp_path / "parts", Limits(stop_at_step=stop))
    whole, parts = (checkpoint.load(tmp_path / run / "last.pt") for run in ("whole", "parts"))
    assert_same(whole, parts)
    assert (tmp_path / "parts" / "best.pt").exists()
    assert list((tmp_path / "parts").glob("events.*"))


def test_begins_with_the_averaged_weights_of_another_run(library: Library, tmp_path: Path) -> None:
    run_training(RECIPE, library, tmp_path, Limits(stop_at_step=3))
    other = checkpoint.load(tmp_path / "last.pt")
    classes = len(other.framework["objective.losses.aam_softmax.centres"])
    learner = make_learner(RECIPE, classes, CPU)
    learner.begin_from(other, same_voices=True)
    for taken in (learner.encoder, learner.average):
        for name, value in taken.state_dict().items():
            assert torch.equal(value, other.average[name]), name
    for name, value in learner.framework.state_dict().items():
        assert torch.equal(value, other.framework[name]), name
    narrow = recipe_of(LOSSES, width="16")
    with pytest.raises(CheckpointError, match="another encoder"):
        make_learner(narrow, classes, CPU).begin_from(other, same_voices=False)


@pytest.mark.parametrize("pretraining", ["pretrain", "moco", "cpc"])
def test_finetuning_has_the_encoder_that_is_pretrained(pretraining: str) -> None:
    before, after = config.load(pretraining), config.load("finetune")
    assert before.encoder == after.encoder
    assert before.front_end == after.front_end
    assert after.sampling.label_share == 1, "fewer labels are asked for, not the default"


def test_losses_are_taken_over_only_by_a_run_on_the_same_voices(
    library: Library, tmp_path: Path
) -> None:
    run_training(RECIPE, library, tmp_path, Limits(stop_at_step=1))
    other = checkpoint.load(tmp_path / "last.pt")
    assert has_same_voices(other, recipe_of(LOSSES, steps="70"), other.progress)
    for recipe in (
        recipe_of(LOSSES, crop_s="[0.5]\nspeeds = [1.0, 0.9]"),
        recipe_of(LOSSES, crop_s="[0.5]\nlabel_share = 0.5"),
        recipe_of(LOSSES, '[framework]\nname = "simclr"'),
        recipe_of('[[losses]]\nname = "aam_softmax"'),
    ):
        assert not has_same_voices(other, recipe, other.progress)
    assert not has_same_voices(other, RECIPE, replace(other.progress, data_digest="other"))


def test_stops_when_its_time_is_up_and_refuses_other_data(library: Library, tmp_path: Path) -> None:
    run_training(RECIPE, library, tmp_path, Limits(max_s=0.0))
    assert checkpoint.load(tmp_path / "last.pt").progress.step == 1
    with pytest.raises(CheckpointError, match="other data"):
        run_training(RECIPE, library.of(range(92)), tmp_path)


def test_a_killed_run_has_saved_its_work_since_the_last_validation(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Listener, "on_step", killed)  # called at step 20
    recipe = recipe_of(LOSSES, validate_every="60")
    with pytest.raises(KeyboardInterrupt):
        run_training(recipe, library, tmp_path, Limits(save_every_s=0.0))
    assert checkpoint.load(tmp_path / "last.pt").progress.step == 19


def test_stops_early_without_improvement(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([0.4, 0.3, 0.35, 0.3, 0.31, 0.1])

    def measure(*_: object) -> Errors:
        eer = next(measured)
        return Errors(eer, eer)

    monkeypatch.setattr(Validation, "measure", measure)
    recipe = recipe_of(LOSSES, validate_every="2\npatience = 3")
    listener = run_training(recipe, library, tmp_path)
    kept = checkpoint.load(tmp_path / "last.pt")
    assert len(listener.errors) == 5
    assert (kept.progress.step, kept.progress.waited) == (10, 3)
    assert checkpoint.load(tmp_path / "best.pt").progress.step == 4
    (warning,) = listener.warnings
    assert "stopped early" in warning
    assert not run_training(recipe, library, tmp_path).errors, "a run that has stopped stays so"


def test_says_when_other_code_began_the_run(library: Library, tmp_path: Path) -> None:
    run_training(RECIPE, library, tmp_path, Limits(stop_at_step=1))
    kept = checkpoint.load(tmp_path / "last.pt")
    assert not run_training(RECIPE, library, tmp_path, Limits(stop_at_step=2)).warnings
    for number, (conditions, changed) in enumerate(
        [
            (kept.progress.conditions | {"code": "0.0.1+abc"}, ["code"]),
            ({}, ["code"]),  # as older code wrote it
            (kept.progress.conditions | {"noise": "0", "threads": "9"}, ["noise", "threads"]),
        ],
        start=2,
    ):
        older = replace(kept.progress, code="0.0.1+abc", conditions=conditions)
        checkpoint.save(tmp_path / "last.pt", replace(kept, progress=older))
        (warning,) = run_training(RECIPE, library, tmp_path, Limits(stop_at_step=number)).warnings
        assert f"other {', '.join(changed)}: no one line repeats it" in warning
        assert checkpoint.load(tmp_path / "last.pt").progress.changed == changed
    (warning,) = run_training(RECIPE, library, tmp_path, Limits(stop_at_step=5)).warnings
    assert "other noise, threads" in warning, "it is not forgotten"


def test_starting_from_another_run_shows_where_it_starts(library: Library, tmp_path: Path) -> None:
    run_training(RECIPE, library, tmp_path / "one", Limits(stop_at_step=30))
    other = checkpoint.load(tmp_path / "one" / "last.pt")
    recipe = recipe_of(LOSSES, learning_rate="1e-9")
    listener = run_training(
        recipe, library, tmp_path / "two", Limits(stop_at_step=2), start_from=other
    )
    learner = make_learner(recipe, 1, CPU)
    learner.average.load_state_dict(other.average)
    expected = prepare(recipe, library, ()).validation.measure(learner.average, CPU)
    assert listener.errors == [expected]
    best = checkpoint.load(tmp_path / "two" / "best.pt")
    assert (best.progress.step, best.progress.best) == (0, expected.mean)
    assert not run_training(RECIPE, library, tmp_path / "one", Limits(stop_at_step=31)).errors


def test_a_run_says_what_it_learns_from(library: Library, tmp_path: Path) -> None:
    recipe = recipe_of(LOSSES, crop_s="[0.5]\nlabel_share = 0.5")
    material = run_training(recipe, library, tmp_path, Limits(stop_at_step=1)).material
    progress = checkpoint.load(tmp_path / "last.pt").progress
    assert f"{progress.train_clips} clips of {progress.train_speakers} speakers" in material


def test_a_loss_of_no_number_replaces_no_checkpoint(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(RECIPE, library, tmp_path, Limits(stop_at_step=1))
    kept = (tmp_path / "last.pt").read_bytes()
    monkeypatch.setattr(LogMel, "forward", lambda *_: torch.full((16, 40, 50), torch.nan))
    recipe_at_2 = Limits(stop_at_step=2, save_every_s=0.0)
    with pytest.raises(DivergenceError, match="at step 2"):
        run_training(RECIPE, library, tmp_path, recipe_at_2)
    assert (tmp_path / "last.pt").read_bytes() == kept


def test_without_a_compiler_training_goes_on_uncompiled(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", missing)
    recipe = recipe_of(LOSSES, steps="2\ncompile = true", validate_every="2")
    listener = run_training(recipe, library, tmp_path)
    (warning,) = listener.warnings
    assert warning.endswith("no working C++ compiler found")
    assert listener.errors


def test_collapse_is_reported_with_its_remedy(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_point(self: nn.Module, waveform: torch.Tensor) -> torch.Tensor:
        scale = next(self.parameters()).sum() * 0.0
        return functional.normalize(torch.ones(len(waveform), 32) + scale, dim=1)

    monkeypatch.setattr(SpeakerEncoder, "forward", one_point)
    recipe = recipe_of('[[losses]]\nname = "triplet"', steps="2", validate_every="2")
    (warning,) = run_training(recipe, library, tmp_path).warnings
    assert warning.startswith("collapse: ")
    assert "lower schedule.learning_rate" in warning


def test_a_loss_that_is_not_finite_ends_the_run(library: Library, tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match="step 20"):
        run_training(recipe_of(LOSSES, learning_rate="1e30"), library, tmp_path)


def test_learning_rate_warms_up_then_falls_as_a_cosine() -> None:
    schedule = Schedule(steps=110, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.2)
    assert [compute_learning_rate(schedule, step) for step in (0, 4, 9, 10, 60)] == pytest.approx(
        [0.1, 0.5, 1.0, 1.0, 0.6]
    )
    assert compute_learning_rate(schedule, 109) == pytest.approx(0.2, abs=1e-3)


def test_average_follows_weights_and_statistics_and_copies_counters() -> None:
    module, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(module.weight, 3.0)
    module(torch.randn(8, 2) + 10)
    statistics = module.running_mean
    assert statistics is not None
    follow(average, module, decay=0.75)
    assert average.weight.tolist() == [1.5, 1.5]
    assert average.running_mean is not None
    assert torch.allclose(average.running_mean, 0.25 * statistics)
    assert average.num_batches_tracked == 1
