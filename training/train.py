"""The training loop, top to bottom."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from training import checkpoint, encoders, losses
from training.augment import Channel
from training.batches import Batches, stream
from training.checkpoint import Checkpoint
from training.config import Recipe, Schedule
from training.data import Library, Pcm, clips_by_speaker, hold_out
from training.errors import CheckpointError
from training.sampler import VoiceSampler
from training.validation import Errors, Validation

VALIDATION_S = 3.0
LOG_EVERY = 20


class Reporter(Protocol):
    """Where a run tells how it goes."""

    def step(self, step: int, loss: float, clips_per_s: float) -> None: ...

    def validated(self, step: int, errors: Errors, *, best: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Stop early, to be resumed: at a step, or when the clock has run for so many seconds."""

    stop_at_step: int | None = None
    max_s: float = math.inf


def learning_rate(schedule: Schedule, step: int) -> float:
    """Of 0-based step: linear warm-up, then cosine decay; a function of the step alone."""
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


def train(
    recipe: Recipe,
    library: Library,
    noises: tuple[Pcm, ...],
    output: Path,
    *,
    reporter: Reporter,
    device: torch.device,
    limits: Limits = Limits(),
    resume: bool = False,
    workers: int = 0,
) -> Path:
    """Train into the run folder `output` and return its best checkpoint.

    Writes `last.pt` at every validation and at the end, `best.pt` whenever the mean of the two
    validation EERs falls, and TensorBoard scalars. Continues bit for bit on one device from
    `last.pt` when `resume`. Raises CheckpointError when the folder holds a run and `resume` is
    off, or holds one of another recipe or other data.
    """
    schedule, rate_hz = recipe.schedule, recipe.front_end.sample_rate_hz
    torch.manual_seed(recipe.seed)

    # data: who is learned from, who is held out
    learned, held_out = (
        library.of(side) for side in hold_out(library.clips, recipe.sampling.held_out_speakers)
    )
    groups = list(clips_by_speaker(learned.clips).values())
    sampling = recipe.sampling
    sampler = VoiceSampler(
        groups,
        speakers=sampling.speakers,
        clips_per_speaker=sampling.clips_per_speaker,
        balance=sampling.balance,
        crop_s=sampling.crop_s,
        speeds=sampling.speeds,
        seed=recipe.seed,
    )
    channel = Channel(recipe.augmentation, rate_hz, noises, learned.audio)
    batches = Batches(learned, sampler, channel, sample_rate_hz=rate_hz, seed=recipe.seed)
    validation = Validation(
        held_out, channel, samples=round(VALIDATION_S * rate_hz), seed=recipe.seed
    )

    # model
    encoder = encoders.build(recipe).to(device)
    average = copy.deepcopy(encoder).eval()
    objective = losses.build(recipe, sampler.voices).to(device)
    learn = [p for p in (*encoder.parameters(), *objective.parameters()) if p.requires_grad]
    optimiser = torch.optim.AdamW(
        learn, lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    embed = torch.compile(encoder, dynamic=False) if schedule.compile else encoder

    # resume
    progress = checkpoint.Progress(0, math.inf, library.digest(), len(groups), len(learned.clips))
    last, best = output / "last.pt", output / "best.pt"
    if last.exists():
        kept = _previous(last, recipe, progress.data_digest, resume=resume)
        progress = kept.progress
        encoder.load_state_dict(kept.encoder)
        average.load_state_dict(kept.average)
        objective.load_state_dict(kept.losses)
        optimiser.load_state_dict(kept.optimiser)
        checkpoint.restore_random_state(kept.random)
    output.mkdir(parents=True, exist_ok=True)

    def snapshot() -> Checkpoint:
        return Checkpoint(
            recipe,
            progress,
            encoder.state_dict(),
            average.state_dict(),
            objective.state_dict(),
            optimiser.state_dict(),
            checkpoint.random_state(),
        )

    # the loop
    started_s = time.monotonic()
    stop = min(schedule.steps, limits.stop_at_step or schedule.steps)
    lap_s, lap_clips = started_s, 0
    with SummaryWriter(output) as board:
        for waveforms, labels in stream(batches, progress.step, stop, workers):
            step = progress.step
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(schedule, step)
            encoder.train()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                embeddings = embed(waveforms.to(device, non_blocking=True))  # (batch, dim)
            loss, parts = objective(embeddings, labels.to(device, non_blocking=True))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(learn, schedule.gradient_norm)
            optimiser.step()
            follow(average, encoder, min(schedule.average_decay, (1 + step) / (10 + step)))
            progress = replace(progress, step=step + 1)
            lap_clips += len(labels)

            if progress.step % LOG_EVERY == 0:
                now_s, total = time.monotonic(), float(loss.detach())
                clips_per_s = lap_clips / (now_s - lap_s)
                lap_s, lap_clips = now_s, 0
                reporter.step(progress.step, total, clips_per_s)
                board.add_scalar("loss/total", total, progress.step)
                for name, part in parts.items():
                    board.add_scalar(f"loss/{name}", float(part), progress.step)
                board.add_scalar("gradient_norm", float(norm), progress.step)
                board.add_scalar("learning_rate", learning_rate(schedule, step), progress.step)
                board.add_scalar("clips_per_s", clips_per_s, progress.step)

            if progress.step % schedule.validate_every == 0 or progress.step == schedule.steps:
                errors = validation.measure(average, device)
                board.add_scalar("eer/recorded", errors.recorded, progress.step)
                board.add_scalar("eer/crossed", errors.crossed, progress.step)
                improved = errors.mean < progress.best
                reporter.validated(progress.step, errors, best=improved)
                if improved:
                    progress = replace(progress, best=errors.mean)
                    checkpoint.save(best, snapshot())
                checkpoint.save(last, snapshot())

            if time.monotonic() - started_s > limits.max_s:
                break
    checkpoint.save(last, snapshot())
    return best


def _previous(last: Path, recipe: Recipe, data_digest: str, *, resume: bool) -> Checkpoint:
    if not resume:
        raise CheckpointError(f"{last.parent} already holds a run; continue it with --resume")
    kept = checkpoint.load(last)
    if kept.recipe != recipe:
        raise CheckpointError(f"{last} was made by another recipe")
    if kept.progress.data_digest != data_digest:
        raise CheckpointError(f"{last} was made from other data")
    return kept
