"""`sayso-train`: from a corpus to a checkpoint."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress

from training import config, encoders
from training.analysis import gallery
from training.commands.compare import compare
from training.commands.data import inspect, load_library, manifest, pack
from training.commands.hear import hear
from training.commands.picture import picture
from training.commands.probe import probe
from training.commands.terminal import console, one_line_errors, progress_bars, say
from training.data import teacher
from training.data.library import Pcm, load_noises
from training.encoders.size import multiply_accumulates, parameters
from training.errors import ConfigError
from training.ranks import end_at_once, join_torchrun
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
from training.runs.validation import Errors
from training.train import Limits, train

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
for command in (manifest, inspect, pack, hear, compare, picture, probe):
    app.command()(command)

RecipeName = Annotated[
    str, typer.Argument(help="A recipe's TOML file, or the name of one in training/recipes.")
]


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


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def settle(device: Device, threads: int) -> torch.device:
    """Pick the device and make its kernels deterministic, so that a resumed run repeats itself."""
    torch.set_flush_denormal(True)
    if threads:
        torch.set_num_threads(threads)
    has_cuda = torch.cuda.is_available()
    if device is Device.CUDA and not has_cuda:
        raise ConfigError("torch sees no CUDA device here")
    if device is Device.CPU or not has_cuda:
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda")


def list_arguments(context: typer.Context, *left_out: str) -> Iterator[str]:
    """The command's arguments that differ from its defaults."""
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name not in left_out and value != parameter.default:
            if parameter.param_type_name == "option":
                yield parameter.opts[0]
            yield str(value)


@app.command()
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

    Several processes train it together under torchrun --nproc-per-node N -m training run ...
    """
    with one_line_errors(), join_torchrun(os.environ) as ranks:
        chosen = config.load(recipe)
        resume_from = checkpoint.previous(output, chosen, resume=resume)
        other = starting_weights.read(start_from) if start_from is not None else None
        teacher_targets = teacher.Targets.load(targets) if targets is not None else None
        preconditions.require(chosen, output, other, teacher_targets)
        target = settle(device, threads)
        rate_hz = chosen.front_end.sample_rate_hz
        library = load_library(
            manifest, split, rate_hz, shown=ranks.first, check=partial(material.sides, chosen)
        )
        noises = load_noises_beside(manifest, noise, rate_hz)
        with progress_bars(shown=ranks.first) as progress:
            before = history.read(output, until=resume_from.progress.step) if resume_from else {}
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
        if ranks.first:
            gallery.write(output, library, target)
            ended = checkpoint.load(output / checkpoint.LAST).progress
            line = reproduction.line(
                list_arguments(context, "resume", "max_minutes"),
                seed=chosen.seed,
                data_digest=ended.data_digest,
                conditions=ended.conditions,
                changed=ended.changed,
            )
            say(line)
            if best.name == checkpoint.LAST:
                say("stopped before the first validation: there is no best checkpoint yet")
            sys.stdout.write(f"{best}\n")


@app.command()
def teach(
    model: Annotated[Path, typer.Argument(help="The teacher: a model file (.onnx).")],
    recipe: RecipeName,
    manifest: Annotated[Path, typer.Option(help="A manifest (CSV), or the folder of a pack.")],
    output: Annotated[Path, typer.Option(help="The targets to write (.npz).")],
    split: Annotated[str, typer.Option(help="Rows of the manifest to use.")] = "train",
    threads: Annotated[int, typer.Option(min=1, help="Clips heard at once.")] = 2,
) -> None:
    """Embed every clip, at every speed of the recipe, by another model: targets to distil."""
    with one_line_errors():
        chosen = config.load(recipe)
        teacher.open_teacher(model)
        preconditions.require_writable(output.parent)
        rate_hz = chosen.front_end.sample_rate_hz
        library = load_library(manifest, split, rate_hz)
        with progress_bars() as progress:
            hearing = progress.add_task("hearing", total=len(library.clips), note="")
            written = teacher.teach(
                model,
                library,
                sample_rate_hz=rate_hz,
                speeds=chosen.sampling.speeds,
                threads=threads,
                cuda=torch.cuda.is_available(),
                advance=lambda: progress.advance(hearing),
            )
        written.save(output)
    sys.stdout.write(f"{output}\n")


@app.command()
def describe(recipe: RecipeName) -> None:
    """Print a recipe's encoder: parameters, and multiply-accumulates for one second of audio."""
    with one_line_errors():
        chosen = config.load(recipe)
    encoder = encoders.build(chosen).eval()
    second = torch.zeros(1, chosen.front_end.sample_rate_hz)
    sys.stdout.write(
        f"encoder              {chosen.encoder.name}\n"
        f"embedding dimension  {chosen.encoder.embedding_dim}\n"
        f"parameters           {parameters(encoder) / 1e6:.2f} M\n"
        f"MACs                 {multiply_accumulates(encoder, second) / 1e6:.0f} M "
        "for a second of audio, front end included\n"
    )


if __name__ == "__main__":
    with end_at_once(os.environ):
        app()
