"""`run`: train an encoder by a recipe."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from training.commands.data import load_library
from training.commands.options import Device, RecipeName, settle
from training.commands.terminal import console, progress_bars, say
from training.data.library import Pcm, load_noises

if TYPE_CHECKING:
    from training.runs.validation import Errors

INTERRUPTED = 130  # the status of a command that SIGINT ends


class ConsoleReporter:
    """Shows a bar with the time left, and a line for every validation (plain lines when piped)."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("training", total=total, note="")

    def on_start(self, step: int, material: str) -> None:
        say(f"step {step}: learning from {material}")

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        note = (
            f"loss {scalars['loss/total']:.3f}, {scalars['clips_per_s']:.0f} clips/s, "
            f"{scalars['loader_wait']:.0%} waiting for the loader"
        )
        self._progress.update(self._task, completed=step, note=note)
        if not console.is_terminal:
            say(f"step {step}: {note}")

    def on_validation(self, step: int, errors: Errors, *, best: bool) -> None:
        say(
            f"step {step}: held-out EER {errors.recorded:.2%} as recorded, "
            f"{errors.crossed:.2%} across channels{' (best)' if best else ''}"
        )

    def on_warning(self, step: int, warning: str) -> None:
        say(f"step {step}: {warning}")


def load_noises_beside(manifest: Path, folder: Path | None, rate_hz: int) -> tuple[Pcm, ...]:
    if folder is None:
        folder = manifest.parent / "noise"
        if not folder.is_dir():
            say("no noise folder: voices will be the only noise")
            return ()
    return load_noises(folder, rate_hz)


def list_arguments(context: typer.Context, *left_out: str) -> Iterator[str]:
    """The command's arguments that differ from its defaults."""
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name not in left_out and value != parameter.default:
            if parameter.param_type_name == "option":
                yield parameter.opts[0]
            yield str(value)


def run(
    context: typer.Context,
    recipe: RecipeName,
    manifest: Annotated[Path, typer.Option(help="A manifest (CSV), or the folder of a pack.")],
    output: Annotated[Path, typer.Option(help="Run folder: checkpoints, scalars, pictures.")],
    split: Annotated[str, typer.Option(help="Rows of the manifest to use.")] = "train",
    noise: Annotated[
        Path | None,
        typer.Option(help="Folder of noise recordings.", show_default="noise/ beside the manifest"),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from last.pt in the run folder.")] = False,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Begin with the weights of another run, a model file or a published encoder."
        ),
    ] = None,
    targets: Annotated[
        Path | None,
        typer.Option(help="What `sayso-train teach` wrote; for a recipe that distils."),
    ] = None,
    max_minutes: Annotated[
        float, typer.Option(min=0, help="Stop after so many minutes of training; resume later.")
    ] = math.inf,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that prepare batches; 0 prepares them in turn.")
    ] = 1,
    threads: Annotated[
        int, typer.Option(min=0, help="CPU threads of the model; 0 is torch's default.")
    ] = 0,
    device: Annotated[
        Device, typer.Option(help="auto is cuda when there is one, else cpu.")
    ] = Device.AUTO,
) -> None:
    """Train an encoder by a recipe; prints the best checkpoint's path.

    Ctrl-C stops it, to be resumed. Several processes train it together under
    torchrun --nproc-per-node N -m training run ...

    Example: sayso-train run first --manifest manifest.csv --output runs/first
    """
    from training import config
    from training.analysis import gallery
    from training.data import teacher
    from training.ranks import join_torchrun
    from training.runs import (
        checkpoint,
        history,
        material,
        preconditions,
        reproduction,
        starting_weights,
    )
    from training.runs.curves import Curves
    from training.runs.reporting import Reporters
    from training.train import Limits, train

    with join_torchrun(os.environ) as ranks:
        chosen = config.load(recipe)
        resume_from = checkpoint.load_previous(output, chosen, resume=resume)
        other = starting_weights.read(start_from) if start_from is not None else None
        teacher_targets = teacher.Targets.load(targets) if targets is not None else None
        preconditions.require(chosen, output, other, teacher_targets)
        target = settle(device, threads)
        rate_hz = chosen.front_end.sample_rate_hz
        arguments = list(list_arguments(context, "resume", "max_minutes"))
        try:
            library = load_library(
                manifest,
                split,
                rate_hz,
                shown=ranks.first,
                check=partial(material.split_sides, chosen),
            )
            noises = load_noises_beside(manifest, noise, rate_hz)
            before = history.read(output, until=resume_from.progress.step) if resume_from else {}
            with progress_bars(shown=ranks.first) as progress:
                best = train(
                    chosen,
                    library,
                    noises,
                    output,
                    reporter=Reporters(
                        ConsoleReporter(progress, chosen.schedule.steps), Curves(output, before)
                    ),
                    device=target,
                    limits=Limits(max_s=60 * max_minutes),
                    resume_from=resume_from,
                    start_from=other,
                    targets=teacher_targets,
                    workers=workers,
                    ranks=ranks,
                )
        except KeyboardInterrupt:
            if ranks.first:
                _say_how_to_resume(
                    output, reproduction.make_command(arguments, processes=ranks.world)
                )
            raise typer.Exit(INTERRUPTED) from None
        if ranks.first:
            gallery.write(output, library, target)
            ended = checkpoint.load(output / checkpoint.LAST).progress
            line = reproduction.describe_command(
                arguments,
                seed=chosen.seed,
                data_digest=ended.data_digest,
                conditions=ended.conditions,
                changed=ended.changed,
            )
            say(line)
            if best.name == checkpoint.LAST:
                say("stopped before the first validation: there is no best checkpoint yet")
            typer.echo(best)


def _say_how_to_resume(output: Path, command: str) -> None:
    from training.runs import checkpoint

    last = output / checkpoint.LAST
    if last.exists():
        step = checkpoint.load(last).progress.step
        say(f"interrupted; to go on from step {step}: {command} --resume")
    else:
        say(f"interrupted before the first checkpoint; to begin again: {command}")
