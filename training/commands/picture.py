"""`sayso-train picture`: where an encoder puts speakers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.trained import CheckpointFile, Clips, Seed, Split, TrainedEncoder


def picture(
    checkpoint: CheckpointFile,
    manifest: Clips,
    split: Split = "dev",
    output: Annotated[
        Path | None,
        typer.Option(
            help="The picture to write (.png).", show_default="embeddings.png beside the checkpoint"
        ),
    ] = None,
    speakers: Annotated[int, typer.Option(min=2, help="Shown at most, corpora in turn.")] = 100,
    clips: Annotated[int, typer.Option(min=1, help="Of each speaker, at most.")] = 8,
    seed: Seed = 0,
) -> None:
    """Draw a checkpoint's embeddings of a split's clips by t-SNE, colored by speaker.

    Example: sayso-train picture runs/first/best.pt --manifest manifest.csv
    """
    from training.analysis.gallery import PICTURE, Gallery

    output = output or checkpoint.parent / PICTURE
    trained = TrainedEncoder.load(checkpoint, manifest, split)
    gallery = Gallery.measure(
        trained.checkpoint, trained.library, trained.device, speakers=speakers, clips=clips
    )
    gallery.draw(output, seed=seed)
    typer.echo(output)
