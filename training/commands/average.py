"""`average`: weights between the start and the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.trained import CheckpointFile


def average(
    checkpoint: CheckpointFile,
    start: Annotated[
        Path, typer.Option(help="What the run went on from: a model file or published encoder.")
    ],
    output: Annotated[Path, typer.Option(help="The checkpoint to write (.pt).")],
    share: Annotated[
        float, typer.Option(min=0, max=1, help="How much of the run's end; the rest is the start.")
    ] = 0.5,
) -> None:
    """Average the weights that a run came to with those that it began with, to forget less.

    Example: sayso-train average runs/long/best.pt --start models/sayso.onnx --output averaged.pt
    """
    from training.runs import averaging, preconditions
    from training.runs import checkpoint as checkpoints

    preconditions.require_writable(output.parent)
    averaged = averaging.average_with_start(checkpoints.load(checkpoint), start, share)
    checkpoints.save(output, averaged)
    typer.echo(f"{output}: {share:.0%} of {checkpoint}, the rest of {start}")
