"""Runs beside each other, as their folders tell them."""

from __future__ import annotations

import hashlib
import statistics
from dataclasses import dataclass
from pathlib import Path

from training import encoders
from training.config import Recipe
from training.encoders.size import count_parameters
from training.runs import checkpoint, history
from training.runs.checkpoint import Checkpoint

CLIPS_PER_S = "clips_per_s"


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its folder describes it.

    The EERs are shares, both of the step with the lowest mean, None before the first validation.
    `trials` is a digest of what decides the held-out trials and their channels: EERs of runs that
    differ in it are not of the same audio. `clips_per_s` is a median.
    """

    folder: str
    encoder: str
    parameters: int
    losses: str
    framework: str
    steps: int
    planned_steps: int
    clips_per_s: float | None
    best_step: int | None
    eer_recorded: float | None
    eer_crossed: float | None
    data_digest: str
    trials: str
    seed: int


def read(folder: Path) -> Run:
    """Read a run folder; raises CheckpointError if there is no run."""
    state = checkpoint.load(folder / checkpoint.LAST)
    recipe = state.recipe
    scalars = history.read(folder, until=state.progress.step)
    speeds = scalars.get(CLIPS_PER_S, {}).values()
    best_step, recorded, crossed = history.best_validation(scalars) or (None, None, None)
    return Run(
        folder=str(folder),
        encoder=encoder(recipe),
        parameters=count_parameters(encoders.build(recipe)),
        losses=losses(recipe),
        framework=recipe.framework.name,
        steps=state.progress.step,
        planned_steps=recipe.schedule.steps,
        clips_per_s=statistics.median(speeds) if speeds else None,
        best_step=best_step,
        eer_recorded=recorded,
        eer_crossed=crossed,
        data_digest=state.progress.data_digest,
        trials=trials(state),
        seed=recipe.seed,
    )


def encoder(recipe: Recipe) -> str:
    """Its name and the settings that are not the defaults: ecapa width=256 stride=2."""
    settings = recipe.encoder.model_dump(exclude_defaults=True, exclude={"name"})
    return " ".join([recipe.encoder.name, *(f"{key}={value}" for key, value in settings.items())])


def losses(recipe: Recipe) -> str:
    """Their names, with the weights that are not 1: info_nce + 0.3 triplet."""
    weighed = (
        loss.name if loss.weight == 1 else f"{loss.weight:g} {loss.name}" for loss in recipe.losses
    )
    return " + ".join(weighed) or "its own"


def trials(state: Checkpoint) -> str:
    """A digest of the data, of who is held out, and of the channels drawn for them."""
    recipe = state.recipe
    decisive = (
        state.progress.data_digest,
        recipe.sampling.held_out_speakers,
        recipe.sampling.label_share,
        recipe.front_end.sample_rate_hz,
        recipe.augmentation.model_dump_json(),
        recipe.seed,
    )
    return hashlib.sha256(repr(decisive).encode()).hexdigest()[:12]
