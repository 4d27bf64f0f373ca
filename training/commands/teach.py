"""`teach`: the targets of distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.data import load_library
from training.commands.options import RecipeName
from training.commands.terminal import progress_bars


def teach(
    model: Annotated[Path, typer.Argument(help="The teacher: a model file (.onnx).")],
    recipe: RecipeName,
    manifest: Annotated[Path, typer.Option(help="A manifest (CSV), or the folder of a pack.")],
    output: Annotated[Path, typer.Option(help="The targets to write (.npz).")],
    split: Annotated[str, typer.Option(help="Rows of the manifest to use.")] = "train",
    threads: Annotated[int, typer.Option(min=1, help="Clips embedded at once.")] = 2,
) -> None:
    """Embed every clip, at every speed of the recipe, by another model: targets to distill.

    Example: sayso-train teach teacher.onnx distilled --manifest manifest.csv --output targets.npz
    """
    import torch

    from training import config
    from training.data import teacher
    from training.runs import preconditions

    chosen = config.load(recipe)
    teacher.open_teacher(model)
    preconditions.require_writable(output.parent)
    rate_hz = chosen.front_end.sample_rate_hz
    library = load_library(manifest, split, rate_hz)
    with progress_bars() as progress:
        task = progress.add_task("embedding", total=len(library.clips), note="")
        targets = teacher.teach(
            model,
            library,
            sample_rate_hz=rate_hz,
            speeds=chosen.sampling.speeds,
            threads=threads,
            cuda=torch.cuda.is_available(),
            advance=lambda: progress.advance(task),
        )
    targets.save(output)
    typer.echo(output)
