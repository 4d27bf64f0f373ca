"""Trainings small enough for a test, on the made voices of `tests/training/conftest.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from training import config
from training.config import Recipe
from training.data.library import Library
from training.learner import make_learner
from training.runs import checkpoint
from training.runs.checkpoint import Checkpoint
from training.runs.material import prepare
from training.runs.validation import Errors
from training.train import NO_LIMITS, Limits, train

CPU = torch.device("cpu")
COMMON = """
seed = 5
[sampling]
speakers = 8
clips_per_speaker = 2
crop_s = [0.5]
held_out_speakers = 0.35
[augmentation]
room = 0.0
babble = 0.0
equaliser = 0.7
equaliser_deviation_db = 4.0
[front_end]
mels = 40
[encoder]
name = "ecapa"
width = 32
groups = 4
stride = 2
embedding_dim = 32
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
        self.warnings: list[str] = []

    def on_start(self, step: int, material: str) -> None:
        self.material = material

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        self.losses.append(scalars["loss/total"])

    def on_validation(self, step: int, errors: Errors, *, best: bool) -> None:
        self.errors.append(errors)

    def on_warning(self, step: int, warning: str) -> None:
        self.warnings.append(warning)


def run_training(
    recipe: Recipe,
    library: Library,
    output: Path,
    limits: Limits = NO_LIMITS,
    start_from: Checkpoint | None = None,
) -> Listener:
    """Train, or resume what is in `output`."""
    listener = Listener()
    train(
        recipe,
        library,
        (),
        output,
        reporter=listener,
        device=CPU,
        limits=limits,
        resume_from=checkpoint.load_previous(output, recipe, resume=True),
        start_from=start_from,
    )
    return listener


def recipe_of(*parts: str, **changes: str) -> Recipe:
    """The common recipe with sections added, and `key = value` lines replaced."""
    lines = COMMON.splitlines()
    for key, value in changes.items():
        (place,) = (i for i, line in enumerate(lines) if line.startswith(f"{key} = "))
        lines[place] = f"{key} = {value}"
    return config.parse("\n".join([*lines, *parts]))


def error_of_untrained(recipe: Recipe, library: Library) -> Errors:
    material = prepare(recipe, library, ())
    learner = make_learner(recipe, material.voices, CPU)
    return material.validation.measure(learner.framework.for_validation(learner.average), CPU)


def flat(state: object) -> list[torch.Tensor | float]:
    if isinstance(state, dict):
        return [leaf for value in state.values() for leaf in flat(value)]
    if isinstance(state, list | tuple):
        return [leaf for value in state for leaf in flat(value)]
    return [state] if isinstance(state, torch.Tensor | float | int) else []


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    """Everything a run goes on from, bit for bit."""
    assert one.progress == other.progress
    for name in ("encoder", "average", "framework", "optimizer", "random"):
        pairs = zip(flat(getattr(one, name)), flat(getattr(other, name)), strict=True)
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs), name
