"""`sayso-train hear`: what augmentation does to a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.terminal import progress_bars, say


def hear(
    clip: Annotated[Path, typer.Argument(help="The recording to change.")],
    recipe: Annotated[str, typer.Option(help="Whose section augmentation; a file or a name.")],
    output: Annotated[Path, typer.Option(help="Folder for the WAV files and pictures.")],
    only: Annotated[
        str | None,
        typer.Option(
            help="One stage, as it is named in the recipe, also if it is off there.",
            show_default="all that are on",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws other rooms, noises, codecs.")] = 0,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Voices for babble, and noise/ beside it.", show_default=False),
    ] = None,
    noise: Annotated[
        Path | None,
        typer.Option(help="Folder of noise recordings.", show_default="noise/ beside the manifest"),
    ] = None,
) -> None:
    """Write a clip before and after each stage of a recipe, as audio and spectrogram.

    Example: sayso-train hear clip.wav --recipe first --output heard
    """
    from training import config
    from training.analysis.audition import Audition, Material
    from training.errors import ConfigError

    chosen = config.load(recipe)
    material = Material.beside(manifest, noise, chosen.front_end.sample_rate_hz)
    audition = Audition.open(chosen, material, clip, only=only, seed=seed)
    with progress_bars() as progress:
        task = progress.add_task("writing", total=None if only else audition.count, note="")
        written = []
        for name in audition.write(output):
            written.append(name)
            progress.update(task, advance=1, note=name)
    if not written:
        raise ConfigError(
            f"no stage {only!r} to be heard; noise and babble need recordings, --manifest"
        )
    say(", ".join(written))
    typer.echo(output)
