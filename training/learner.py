"""What changes from step to step, and where it begins."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from training import encoders, frameworks
from training.config import Recipe
from training.encoders import SpeakerEncoder
from training.errors import CheckpointError
from training.frameworks import Framework
from training.ranks import ALONE, Ranks
from training.runs import checkpoint, starting_weights
from training.runs.checkpoint import Checkpoint, Progress


@dataclass(frozen=True, slots=True)
class Learner:
    """What a step changes; `average` is the moving average of `encoder`, and the framework's
    weights are trained with it."""

    encoder: SpeakerEncoder
    average: SpeakerEncoder
    framework: Framework
    optimizer: torch.optim.AdamW

    def snapshot(self, recipe: Recipe, progress: Progress) -> Checkpoint:
        return Checkpoint(
            recipe=recipe,
            progress=progress,
            encoder=self.encoder.state_dict(),
            average=self.average.state_dict(),
            framework=self.framework.state_dict(),
            optimizer=self.optimizer.state_dict(),
            random=checkpoint.read_random_state(),
        )

    def restore(self, state: Checkpoint) -> None:
        self.encoder.load_state_dict(state.encoder)
        self.average.load_state_dict(state.average)
        self.framework.load_state_dict(state.framework)
        self.optimizer.load_state_dict(state.optimizer)
        checkpoint.restore_random_state(state.random)

    def begin_at(self, published: Path) -> None:
        """Take over the encoder of a model file or of a published checkpoint; raises
        CheckpointError for another encoder."""
        starting_weights.load_into(self.encoder, published)
        self.average.load_state_dict(self.encoder.state_dict())
        self.framework.begin(self.encoder)

    def begin_from(self, other: Checkpoint, *, same_voices: bool) -> None:
        """Take over the averaged encoder of another run, and its losses if it learned the same
        voices; raises CheckpointError for another encoder."""
        try:
            self.encoder.load_state_dict(other.average)
            self.average.load_state_dict(other.average)
            if same_voices:
                self.framework.load_state_dict(other.framework)
            self.framework.begin(self.encoder)
        except RuntimeError as error:
            raise CheckpointError(
                "the checkpoint to start from has another encoder or other losses than the recipe"
            ) from error


def require_fit(recipe: Recipe, start_from: Checkpoint | Path) -> None:
    """Raise CheckpointError if the recipe has another encoder than the weights to start from."""
    encoder = encoders.build(recipe)
    if isinstance(start_from, Path):
        starting_weights.load_into(encoder, start_from)
        return
    try:
        encoder.load_state_dict(start_from.average)
    except RuntimeError as error:
        raise CheckpointError(
            "the checkpoint to start from has another encoder than the recipe: "
            f"{start_from.recipe.encoder} instead of {recipe.encoder}"
        ) from error


def has_same_voices(other: Checkpoint, recipe: Recipe, progress: Progress) -> bool:
    """Whether the losses of `other`, with a class for each voice, fit this run unchanged."""
    sampling = other.recipe.sampling
    return (
        other.progress.data_digest == progress.data_digest
        and other.recipe.framework == recipe.framework
        and sampling.speeds == recipe.sampling.speeds
        and sampling.held_out_speakers == recipe.sampling.held_out_speakers
        and sampling.label_share == recipe.sampling.label_share
        and [loss.name for loss in other.recipe.losses] == [loss.name for loss in recipe.losses]
    )


def trainable(*modules: nn.Module) -> list[nn.Parameter]:
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def make_learner(
    recipe: Recipe,
    voices: int,
    device: torch.device,
    target_dim: int | None = None,
    ranks: Ranks = ALONE,
) -> Learner:
    """Build encoder, framework and optimizer, with weights drawn from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    encoder = encoders.build(recipe)
    framework = frameworks.build(
        recipe, encoder, voices=voices, target_dim=target_dim, ranks=ranks
    ).to(device)
    encoder.to(device)
    parameters = trainable(encoder, framework)
    optimizer = torch.optim.AdamW(parameters, weight_decay=recipe.schedule.weight_decay)
    return Learner(encoder, copy.deepcopy(encoder).eval(), framework, optimizer)


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the average towards the module: weights and running statistics, counters copied."""
    for mean, new in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - decay)
        else:
            mean.copy_(new)
