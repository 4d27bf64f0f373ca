"""The training loop, top to bottom."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from training.config import Recipe, Schedule
from training.data.batches import stream
from training.data.library import Library, Pcm
from training.data.teacher import Targets
from training.encoders.compilation import compile_encoder
from training.errors import CheckpointError, DivergenceError
from training.learner import follow, has_same_voices, make_learner, trainable
from training.losses.settings import TripletLoss
from training.ranks import ALONE, Ranks
from training.runs import checkpoint, collapse, reproduction
from training.runs.checkpoint import Checkpoint, Progress
from training.runs.material import prepare
from training.runs.reporting import Board, Lap, Reporter, Reporters
from training.runs.validation import Errors

REPORT_EVERY = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop early, to be resumed: before a step, or after so many seconds of training.

    A process that is killed loses at most `save_every_s` of work.
    """

    stop_at_step: int | None = None
    max_s: float = math.inf
    save_every_s: float = 600.0


NO_LIMITS = Limits()


def compute_learning_rate(schedule: Schedule, step: int) -> float:
    """Linear warm-up, then cosine decay; a function of the 0-based step alone."""
    if step < schedule.warmup_steps:
        return schedule.learning_rate * (step + 1) / schedule.warmup_steps
    share = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    span = schedule.learning_rate - schedule.final_learning_rate
    return schedule.final_learning_rate + span * (1 + math.cos(math.pi * share)) / 2


def require_finite(loss: Tensor, step: int) -> None:
    """Raise DivergenceError, so that no checkpoint is replaced by one that is not finite."""
    if not math.isfinite(loss.item()):
        raise DivergenceError(
            f"the loss is not finite at step {step}; lower schedule.learning_rate and go on from "
            "the last checkpoint with --start-from"
        )


def train(  # noqa: PLR0912, PLR0915 - the loop is told from top to bottom
    recipe: Recipe,
    library: Library,
    noises: tuple[Pcm, ...],
    output: Path,
    *,
    reporter: Reporter,
    device: torch.device,
    limits: Limits = NO_LIMITS,
    resume_from: Checkpoint | None = None,
    start_from: Checkpoint | Path | None = None,
    targets: Targets | None = None,
    workers: int = 0,
    ranks: Ranks = ALONE,
) -> Path:
    """Train into the run folder `output` and return the path of its best checkpoint, or of its
    last one if it was stopped before the first validation.

    Writes `last.pt` at every validation, every ten minutes and at the end, `best.pt` whenever the
    mean of the two validation EERs falls, and TensorBoard scalars. It goes on from `resume_from`
    bit for bit on one device; a new run may `start_from` the weights of another, or of a model
    file, which are validated first, as step 0. Distillation needs the teacher's `targets`. Raises
    CheckpointError when what it goes on from was made from other data, DivergenceError when the
    loss is no longer finite.

    Among several `ranks` each learns from its share of every batch, batch norm from that share
    alone; gradients are averaged, so all hold the same weights. Rank 0 validates, reports and
    writes, with the running statistics of its own shares.
    """
    schedule = recipe.schedule
    last, best = output / checkpoint.LAST, output / checkpoint.BEST
    material = prepare(recipe, library, noises, targets, ranks)
    target_dim = targets.dim if targets else None
    learner = make_learner(recipe, material.voices, device, target_dim, ranks)
    conditions = reproduction.list_conditions(
        noises=noises, targets=targets, device=device, processes=ranks.world
    )
    progress = Progress.at_start(
        library, material.learned, conditions, targets.teacher if targets else None
    )
    if resume_from is not None:
        if resume_from.progress.data_digest != progress.data_digest:
            raise CheckpointError(f"the run in {output} was made from other data")
        learner.restore(resume_from)
        progress = resume_from.progress.resume(conditions)
    elif isinstance(start_from, Path):
        learner.begin_at(start_from)
    elif start_from is not None:
        learner.begin_from(start_from, same_voices=has_same_voices(start_from, recipe, progress))

    margins = [loss.margin for loss in recipe.losses if isinstance(loss, TripletLoss)]
    encoder, framework = learner.encoder, learner.framework
    parameters = trainable(encoder, framework)

    def measure() -> Errors:
        return ranks.from_first(
            lambda: material.validation.measure(framework.for_validation(learner.average), device)
        )

    stop = min(schedule.steps, limits.stop_at_step or schedule.steps)
    saved_s = time.monotonic()
    deadline_s, timed = saved_s + limits.max_s, math.isfinite(limits.max_s)
    lap = Lap()
    with ExitStack() as stack:
        report = Reporters()
        if ranks.first:
            report = Reporters(reporter, stack.enter_context(Board(output)))
        report.on_start(progress.step, str(material))
        if progress.changed:
            changed = ", ".join(progress.changed)
            report.on_warning(
                progress.step, f"made so far with other {changed}: no one line repeats it"
            )
        embed = encoder
        if schedule.compile:
            embed = compile_encoder(encoder, device, partial(report.on_warning, progress.step))
        if resume_from is None and start_from is not None:
            errors = measure()
            progress = replace(progress, best=errors.mean)
            report.on_validation(progress.step, errors, best=True)
            if ranks.first:
                checkpoint.save(best, learner.snapshot(recipe, progress))
        if schedule.patience and progress.waited >= schedule.patience:
            stop = progress.step
        for batch in lap.time(stream(material.batches, progress.step, stop, workers)):
            # the schedule counts from 0, progress counts the steps done
            rate = compute_learning_rate(schedule, progress.step)
            for group in learner.optimizer.param_groups:
                group["lr"] = rate
            decay = min(schedule.average_decay, (1 + progress.step) / (10 + progress.step))

            encoder.train()
            outcome = framework.step(embed, batch.to(device))
            learner.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(outcome.loss)
            ranks.average_gradients(parameters)
            norm = nn.utils.clip_grad_norm_(parameters, schedule.gradient_norm)
            learner.optimizer.step()
            framework.after_step(encoder)
            follow(learner.average, encoder, decay)
            progress = replace(progress, step=progress.step + 1)
            lap.count(len(batch) * ranks.world)

            if progress.step % REPORT_EVERY == 0:
                scalars = {
                    "loss/total": outcome.loss.item(),
                    **{f"loss/{name}": part.item() for name, part in outcome.parts.items()},
                    "gradient_norm": norm.item(),
                    "learning_rate": rate,
                    **lap.finish(),
                }
                report.on_step(progress.step, scalars)
                require_finite(outcome.loss, progress.step)

            if progress.step % schedule.validate_every == 0 or progress.step == schedule.steps:
                require_finite(outcome.loss, progress.step)
                errors = measure()
                improved = errors.mean < progress.best
                report.on_validation(progress.step, errors, best=improved)
                if outcome.compared is not None:
                    fallen = collapse.diagnose(
                        *outcome.compared, outcome.parts, triplet_margin=max(margins, default=None)
                    )
                    if fallen is not None:
                        report.on_warning(progress.step, fallen)
                progress = replace(
                    progress,
                    best=min(errors.mean, progress.best),
                    waited=0 if improved else progress.waited + 1,
                )
                if improved and ranks.first:
                    checkpoint.save(best, learner.snapshot(recipe, progress))
                if ranks.first:
                    checkpoint.save(last, learner.snapshot(recipe, progress))
                if schedule.patience and progress.waited >= schedule.patience:
                    waited = f"no improvement in {progress.waited} validations"
                    report.on_warning(progress.step, f"stopped early: {waited}")
                    break

            if ranks.first and time.monotonic() - saved_s > limits.save_every_s:
                require_finite(outcome.loss, progress.step)
                checkpoint.save(last, learner.snapshot(recipe, progress))
                saved_s = time.monotonic()

            # the clocks of several ranks differ, and all must stop at one step
            if timed and ranks.from_first(lambda: time.monotonic() > deadline_s):
                break
    if ranks.first:
        checkpoint.save(last, learner.snapshot(recipe, progress))
    return best if best.exists() else last
