"""`sayso-train picture`: where an encoder puts speakers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from training.analysis.gallery import CLIPS, PICTURE, SPEAKERS, Gallery
from training.commands.terminal import one_line_errors
from training.commands.trained import CheckpointFile, Clips, Seed, Split, TrainedEncoder


def picture(
    checkpoint: CheckpointFile,
    manifest: Clips,
    split: Split = "dev",
    output: Annotated[
        Path | None,
        typer.Option(
            help="The picture to write (.png).", show_default=f"{PICTURE} beside the checkpoint"
        ),
    ] = None,
    speakers: Annotated[
        int, typer.Option(min=2, help="Shown at most, corpora in turn.")
    ] = SPEAKERS,
    clips: Annotated[int, typer.Option(min=1, help="Of each speaker, at most.")] = CLIPS,
    seed: Seed = 0,
) -> None:
    """Draw a checkpoint's embeddings of a split's clips by t-SNE, colored by speaker."""
    output = output or checkpoint.parent / PICTURE
    with one_line_errors():
        trained = TrainedEncoder.load(checkpoint, manifest, split)
        gallery = Gallery.measure(
            trained.checkpoint, trained.library, trained.device, speakers=speakers, clips=clips
        )
        gallery.draw(output, seed=seed)
    sys.stdout.write(f"{output}\n")
