"""The training loop, top to bottom."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from training import checkpoint, encoders, losses
from training.augment import Channel
from training.batches import Batches, stream
from training.checkpoint import Checkpoint, Progress
from training.config import Recipe, Schedule
from training.data import Library, Pcm, clips_by_speaker, hold_out
from training.encoders import SpeakerEncoder
from training.errors import CheckpointError, DivergenceError
from training.losses import WeightedSum
from training.reporting import Board, Lap, Reporter
from training.sampler import VoiceSampler
from training.validation import Validation

VALIDATION_S = 3.0
REPORT_EVERY = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Stop early, to be resumed: before a step, or once training has taken so many seconds."""

    stop_at_step: int | None = None
    max_s: float = math.inf


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Material:
    """What is learned from, and the held-out speakers it is measured on."""

    learned: Library
    voices: int
    batches: Batches
    validation: Validation


@dataclass(frozen=True, slots=True)
class Learner:
    """Everything that changes from step to step; `average` is the encoder's moving average."""

    encoder: SpeakerEncoder
    average: SpeakerEncoder
    objective: WeightedSum
    optimiser: torch.optim.AdamW

    def snapshot(self, recipe: Recipe, progress: Progress) -> Checkpoint:
        return Checkpoint(
            recipe=recipe,
            progress=progress,
            encoder=self.encoder.state_dict(),
            average=self.average.state_dict(),
            losses=self.objective.state_dict(),
            optimiser=self.optimiser.state_dict(),
            random=checkpoint.random_state(),
        )

    def restore(self, kept: Checkpoint) -> None:
        self.encoder.load_state_dict(kept.encoder)
        self.average.load_state_dict(kept.average)
        self.objective.load_state_dict(kept.losses)
        self.optimiser.load_state_dict(kept.optimiser)
        checkpoint.restore_random_state(kept.random)

    def begin_from(self, other: Checkpoint, *, same_voices: bool) -> None:
        """Take over the averaged encoder of another run, and its losses if it learned the same
        voices; raises CheckpointError for another encoder."""
        try:
            self.encoder.load_state_dict(other.average)
            self.average.load_state_dict(other.average)
            if same_voices:
                self.objective.load_state_dict(other.losses)
        except RuntimeError as error:
            raise CheckpointError(
                "the checkpoint to start from has another encoder or other losses than the recipe"
            ) from error


def prepare(recipe: Recipe, library: Library, noises: tuple[Pcm, ...]) -> Material:
    sampling, rate_hz = recipe.sampling, recipe.front_end.sample_rate_hz
    sides = hold_out(library.clips, sampling.held_out_speakers)
    learned, held_out = (library.of(side) for side in sides)
    sampler = VoiceSampler(
        list(clips_by_speaker(learned.clips).values()),
        speakers=sampling.speakers,
        clips_per_speaker=sampling.clips_per_speaker,
        balance=sampling.balance,
        crop_s=sampling.crop_s,
        speeds=sampling.speeds,
        seed=recipe.seed,
    )
    channel = Channel(recipe.augmentation, rate_hz, noises, learned.audio)
    return Material(
        learned,
        sampler.voices,
        Batches(learned, sampler, channel, sample_rate_hz=rate_hz, seed=recipe.seed),
        Validation(held_out, channel, samples=round(VALIDATION_S * rate_hz), seed=recipe.seed),
    )


def trainable(*modules: nn.Module) -> list[nn.Parameter]:
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def new_learner(recipe: Recipe, voices: int, device: torch.device) -> Learner:
    """Weights are drawn from the recipe's seed, by torch's global generator."""
    torch.manual_seed(recipe.seed)
    encoder = encoders.build(recipe).to(device)
    objective = losses.build(recipe, voices).to(device)
    parameters = trainable(encoder, objective)
    optimiser = torch.optim.AdamW(parameters, weight_decay=recipe.schedule.weight_decay)
    return Learner(encoder, copy.deepcopy(encoder).eval(), objective, optimiser)


def learning_rate(schedule: Schedule, step: int) -> float:
    """Of a 0-based step: linear warm-up, then cosine decay; a function of the step alone."""
    if step < schedule.warmup_steps:
        return schedule.learning_rate * (step + 1) / schedule.warmup_steps
    share = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    span = schedule.learning_rate - schedule.final_learning_rate
    return schedule.final_learning_rate + span * (1 + math.cos(math.pi * share)) / 2


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the average towards the module: weights and running statistics, counters copied."""
    for kept, new in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def train(  # noqa: PLR0915 - the loop is told from top to bottom
    recipe: Recipe,
    library: Library,
    noises: tuple[Pcm, ...],
    output: Path,
    *,
    reporter: Reporter,
    device: torch.device,
    limits: Limits = NO_LIMITS,
    resume_from: Checkpoint | None = None,
    start_from: Checkpoint | None = None,
    workers: int = 0,
) -> Path:
    """Train into the run folder `output` and return the path of its best checkpoint.

    Writes `last.pt` at every validation and at the end, `best.pt` whenever the mean of the two
    validation EERs falls, and TensorBoard scalars. It goes on from `resume_from` bit for bit on
    one device; a new run may `start_from` the weights of another. Raises CheckpointError when
    what it goes on from was made from other data, DivergenceError when the loss is no longer
    finite.
    """
    schedule = recipe.schedule
    last, best = output / checkpoint.LAST, output / checkpoint.BEST
    material = prepare(recipe, library, noises)
    learner = new_learner(recipe, material.voices, device)
    progress = Progress.at_start(library, material.learned)
    if resume_from is not None:
        if resume_from.progress.data_digest != progress.data_digest:
            raise CheckpointError(f"the run in {output} was made from other data")
        learner.restore(resume_from)
        progress = resume_from.progress
    elif start_from is not None:
        same_voices = start_from.progress.data_digest == progress.data_digest
        learner.begin_from(start_from, same_voices=same_voices)

    encoder = learner.encoder
    parameters = trainable(encoder, learner.objective)
    embed = torch.compile(encoder, dynamic=False) if schedule.compile else encoder
    stop = min(schedule.steps, limits.stop_at_step or schedule.steps)
    deadline_s = time.monotonic() + limits.max_s
    lap = Lap()
    with Board(output) as board:
        for waveforms, labels in stream(material.batches, progress.step, stop, workers):
            # the schedule counts from 0, progress counts the steps done
            rate = learning_rate(schedule, progress.step)
            for group in learner.optimiser.param_groups:
                group["lr"] = rate
            decay = min(schedule.average_decay, (1 + progress.step) / (10 + progress.step))

            encoder.train()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                embeddings = embed(waveforms.to(device, non_blocking=True))  # (batch, dim)
            loss, parts = learner.objective(embeddings, labels.to(device, non_blocking=True))
            learner.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, schedule.gradient_norm)
            learner.optimiser.step()
            follow(learner.average, encoder, decay)
            progress = replace(progress, step=progress.step + 1)
            lap.count(len(labels))

            if progress.step % REPORT_EVERY == 0:
                scalars = {
                    "loss/total": loss.item(),
                    **{f"loss/{name}": part.item() for name, part in parts.items()},
                    "gradient_norm": norm.item(),
                    "learning_rate": rate,
                    "clips_per_s": lap.finish(),
                }
                for listener in (reporter, board):
                    listener.step(progress.step, scalars)
                if not math.isfinite(scalars["loss/total"]):
                    raise DivergenceError(f"the loss is not finite at step {progress.step}")

            if progress.step % schedule.validate_every == 0 or progress.step == schedule.steps:
                errors = material.validation.measure(learner.average, device)
                improved = errors.mean < progress.best
                for listener in (reporter, board):
                    listener.validated(progress.step, errors, best=improved)
                if improved:
                    progress = replace(progress, best=errors.mean)
                    checkpoint.save(best, learner.snapshot(recipe, progress))
                checkpoint.save(last, learner.snapshot(recipe, progress))

            if time.monotonic() > deadline_s:
                break
    checkpoint.save(last, learner.snapshot(recipe, progress))
    return best
