"""`sayso-train countermeasure`: train what tells bona fide speech from spoofed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from training.commands.run import load_noises_beside
from training.commands.terminal import say
from training.errors import CheckpointError


class LineReporter:
    """Prints a line for the loss and for every validation."""

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        say(f"step {step}: loss {scalars['loss']:.3f}")

    def on_validation(self, step: int, error_rate: float) -> None:
        say(f"step {step}: EER {error_rate:.2%} of held-out speakers, attacks that are learned")


def countermeasure(
    recipe: Annotated[str, typer.Argument(help="A TOML file, or `countermeasure`.")],
    manifest: Annotated[Path, typer.Option(help="What `sayso-train spoofs` wrote.")],
    output: Annotated[Path, typer.Option(help="Run folder.")],
    noise: Annotated[
        Path | None,
        typer.Option(help="Folder of noise recordings.", show_default="noise/ beside the manifest"),
    ] = None,
    leave_out: Annotated[
        str, typer.Option(help="Attacks, with commas, to learn nothing from.")
    ] = "",
    resume: Annotated[bool, typer.Option(help="Go on from last.pt in the run folder.")] = False,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Begin with the weights of another run's last.pt.", show_default=False),
    ] = None,
    max_minutes: Annotated[float, typer.Option(min=0, help="Stop early; resume later.")] = math.inf,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that prepare batches; 0 prepares them in turn.")
    ] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads of torch; 0 leaves its own.")] = 0,
) -> None:
    """Train a countermeasure on bona fide and spoofed clips, on the CPU.

    Example: sayso-train countermeasure countermeasure --manifest spoofs/manifest.csv --output cm
    """
    import torch

    from training.countermeasure import clips, train
    from training.countermeasure.recipe import load

    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    chosen = load(recipe)
    if not resume and (output / train.LAST).exists():
        raise CheckpointError(f"{output} already holds a run; continue it with --resume")
    left_out = [name for name in leave_out.split(",") if name]
    material = clips.load(manifest, chosen.sample_rate_hz, left_out=left_out)
    noises = load_noises_beside(manifest, noise, chosen.sample_rate_hz)
    path = train.train(
        chosen,
        material,
        noises,
        output,
        reporter=LineReporter(),
        max_s=60 * max_minutes,
        resume=resume,
        start_from=start_from,
        workers=workers,
    )
    typer.echo(path)
