"""`sayso-train`: train an encoder, or describe one."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training import checkpoint, config, data, encoders
from training.encoders.size import multiply_accumulates, parameters
from training.errors import ConfigError, TrainingError
from training.train import Limits, train
from training.validation import Errors

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
console = Console(stderr=True)

RecipeName = Annotated[
    str, typer.Argument(help="A recipe's TOML file, or the name of one in training/recipes.")
]


def say(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What the user can put right ends in one line and exit code 2."""
    try:
        yield
    except TrainingError as error:
        say(f"error: {error}")
        raise typer.Exit(2) from error


class ConsoleReporter:
    """A bar with time left, and a line for every validation (plain lines when piped)."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("training", total=total, note="")

    def step(self, step: int, scalars: Mapping[str, float]) -> None:
        note = f"loss {scalars['loss/total']:.3f}, {scalars['clips_per_s']:.0f} clips/s"
        self._progress.update(self._task, completed=step, note=note)
        if not console.is_terminal:
            say(f"step {step}: {note}")

    def validated(self, step: int, errors: Errors, *, best: bool) -> None:
        say(
            f"step {step}: held-out EER {errors.recorded:.2%} as recorded, "
            f"{errors.crossed:.2%} across channels{' (best)' if best else ''}"
        )


def progress_bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def noises_beside(manifest: Path, folder: Path | None, rate_hz: int) -> tuple[data.Pcm, ...]:
    if folder is None:
        folder = manifest.parent / "noise"
        if not folder.is_dir():
            say("no noise folder: voices will be the only noise")
            return ()
    return data.load_noises(folder, rate_hz)


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def settle(device: Device, threads: int) -> torch.device:
    """Pick the device, and its reproducible kernels, so that a resumed run repeats itself."""
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


@app.command()
def run(
    recipe: RecipeName,
    manifest: Annotated[
        Path, typer.Option(help="CSV with the columns path, corpus, speaker, split.")
    ],
    output: Annotated[Path, typer.Option(help="Run folder: checkpoints and TensorBoard scalars.")],
    split: Annotated[str, typer.Option(help="Rows of the manifest to use.")] = "train",
    noise: Annotated[
        Path | None,
        typer.Option(help="Folder of noise recordings.", show_default="noise/ beside the manifest"),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from last.pt in the run folder.")] = False,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Begin with the weights of this checkpoint of another run."),
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
    """Train an encoder by a recipe; prints the best checkpoint's path."""
    with one_line_errors():
        chosen = config.load(recipe)
        resume_from = checkpoint.previous(output, chosen, resume=resume)
        other = checkpoint.load(start_from) if start_from is not None else None
        target = settle(device, threads)
        rate_hz = chosen.front_end.sample_rate_hz
        clips = data.read_manifest(manifest, split)
        noises = noises_beside(manifest, noise, rate_hz)
        with progress_bars() as progress:
            decoding = progress.add_task("decoding", total=len(clips), note="")
            library = data.load(clips, rate_hz, advance=lambda: progress.advance(decoding))
            for path in library.unreadable:
                say(f"skipped, unreadable: {path}")
            best = train(
                chosen,
                library,
                noises,
                output,
                reporter=ConsoleReporter(progress, chosen.schedule.steps),
                device=target,
                limits=Limits(max_s=60 * max_minutes),
                resume_from=resume_from,
                start_from=other,
                workers=workers,
            )
    sys.stdout.write(f"{best}\n")


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
        "for a second of audio\n"
    )


if __name__ == "__main__":
    app()
