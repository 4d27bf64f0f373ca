"""A whole training on made voices: it learns, it resumes bit for bit, it exports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from training import checkpoint, config, data
from training.config import Recipe, Schedule
from training.data import Library
from training.errors import CheckpointError, DivergenceError
from training.train import NO_LIMITS, Limits, follow, learning_rate, new_learner, prepare, train
from training.validation import Errors

RECIPE = """
seed = 5
[sampling]
speakers = 8
clips_per_speaker = 2
crop_s = [0.5]
held_out_speakers = 0.35
[augmentation]
room = 0.0
babble = 0.0
[front_end]
mels = 40
[encoder]
name = "ecapa"
width = 32
groups = 4
stride = 2
embedding_dim = 32
[[losses]]
name = "aam_softmax"
[[losses]]
name = "info_nce"
[[losses]]
name = "triplet"
[schedule]
steps = 60
warmup_steps = 5
learning_rate = 3e-3
average_decay = 0.9
validate_every = 20
"""


class Listener:
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.errors: list[Errors] = []

    def step(self, step: int, scalars: Mapping[str, float]) -> None:
        self.losses.append(scalars["loss/total"])

    def validated(self, step: int, errors: Errors, *, best: bool) -> None:
        self.errors.append(errors)


@pytest.fixture(scope="module")
def library(corpus: Path) -> Library:
    return data.load(data.read_manifest(corpus), 16000)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def go(recipe: Recipe, library: Library, output: Path, limits: Limits = NO_LIMITS) -> Listener:
    listener = Listener()
    train(
        recipe,
        library,
        (),
        output,
        reporter=listener,
        device=torch.device("cpu"),
        limits=limits,
        resume_from=checkpoint.previous(output, recipe, resume=True),
    )
    return listener


def error_of_untrained(recipe: Recipe, library: Library) -> Errors:
    material = prepare(recipe, library, ())
    learner = new_learner(recipe, material.voices, torch.device("cpu"))
    return material.validation.measure(learner.average, torch.device("cpu"))


def flat(state: object) -> list[torch.Tensor | float]:
    if isinstance(state, dict):
        return [leaf for value in state.values() for leaf in flat(value)]
    if isinstance(state, list | tuple):
        return [leaf for value in state for leaf in flat(value)]
    return [state] if isinstance(state, torch.Tensor | float | int) else []


def test_learns_and_resumes_bit_for_bit(library: Library, tmp_path: Path) -> None:
    recipe = config.parse(RECIPE)
    listener = go(recipe, library, tmp_path / "whole")
    assert listener.losses[-1] < 0.5 * listener.losses[0]
    untrained = error_of_untrained(recipe, library)
    assert listener.errors[-1].crossed < min(0.1, 0.5 * untrained.crossed)

    for stop in (13, 40, None):
        go(recipe, library, tmp_path / "parts", Limits(stop_at_step=stop))
    whole, parts = (checkpoint.load(tmp_path / run / "last.pt") for run in ("whole", "parts"))
    assert parts.progress == whole.progress
    for name in ("encoder", "average", "losses", "optimiser", "random"):
        pairs = zip(flat(getattr(whole, name)), flat(getattr(parts, name)), strict=True)
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs), name
    assert (tmp_path / "parts" / "best.pt").exists()
    assert list((tmp_path / "parts").glob("events.*"))


def test_begins_with_the_averaged_weights_of_another_run(library: Library, tmp_path: Path) -> None:
    recipe = config.parse(RECIPE)
    go(recipe, library, tmp_path, Limits(stop_at_step=3))
    other = checkpoint.load(tmp_path / "last.pt")
    learner = new_learner(recipe, prepare(recipe, library, ()).voices, torch.device("cpu"))
    learner.begin_from(other, same_voices=True)
    for taken in (learner.encoder, learner.average):
        for name, value in taken.state_dict().items():
            assert torch.equal(value, other.average[name]), name
    assert all(
        torch.equal(value, other.losses[name])
        for name, value in learner.objective.state_dict().items()
    )
    narrow = config.parse(RECIPE.replace("width = 32", "width = 16"))
    with pytest.raises(CheckpointError, match="another encoder"):
        new_learner(narrow, 8, torch.device("cpu")).begin_from(other, same_voices=False)


def test_stops_when_its_time_is_up_and_refuses_other_data(library: Library, tmp_path: Path) -> None:
    recipe = config.parse(RECIPE)
    go(recipe, library, tmp_path, Limits(max_s=0.0))
    assert checkpoint.load(tmp_path / "last.pt").progress.step == 1
    with pytest.raises(CheckpointError, match="other data"):
        go(recipe, library.of(range(92)), tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run(library: Library, tmp_path: Path) -> None:
    recipe = config.parse(RECIPE.replace("learning_rate = 3e-3", "learning_rate = 1e30"))
    with pytest.raises(DivergenceError, match="step 20"):
        go(recipe, library, tmp_path)


def test_learning_rate_warms_up_then_falls_as_a_cosine() -> None:
    schedule = Schedule(steps=110, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.2)
    assert [learning_rate(schedule, step) for step in (0, 4, 9, 10, 60)] == pytest.approx(
        [0.1, 0.5, 1.0, 1.0, 0.6]
    )
    assert learning_rate(schedule, 109) == pytest.approx(0.2, abs=1e-3)


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
