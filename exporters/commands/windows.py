"""`windows`: window and hop, by measurement."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evaluation.experiments.request import Request
from evaluation.scoring import cache
from exporters import model_file
from exporters.commands.options import CacheFile, MinSpeechS
from exporters.commands.terminal import print_errors
from exporters.tuning import windows as windowing
from service.inference.session import Device


def windows(
    model: Annotated[Path, typer.Argument(help="A model file with its contract.")],
    manifest: Annotated[Path, typer.Option(help="CSV of clips: path, speaker, corpus, split.")],
    split: Annotated[str, typer.Option(help="The manifest's split to measure on.")] = "dev",
    window_s: Annotated[
        list[float], typer.Option(help="A window to try, in seconds; may be given more than once.")
    ] = [1.5, 2.0, 3.0, 4.0],  # noqa: B006
    overlap: Annotated[
        list[float],
        typer.Option(help="Share of a window that the next repeats; may be given more than once."),
    ] = [0.5],  # noqa: B006
    min_speech_s: MinSpeechS = 0.5,
    max_trials: Annotated[int, typer.Option(help="Draw this many at most.", min=2)] = 1_000_000,
    output: Annotated[
        Path | None, typer.Option(help="Write the model with the best choice here. [only told]")
    ] = None,
    cache_file: CacheFile = None,
    device: Annotated[Device, typer.Option(help="Where inference runs.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
) -> None:
    """Choose window and hop by measurement, on trials run as the service runs them.

    The choice is the one that runs the least audio through the model, the shorter where equal,
    among those whose EER is within 3% of the least. A model written with other windows has to be
    calibrated again.
    """
    request = Request(
        model=model,
        manifest=manifest,
        split=split,
        cache=cache_file or cache.default_path(),
        device=device,
        max_trials=max_trials,
        seed=seed,
    )
    with print_errors():
        choices = windowing.list_choices(window_s, overlaps=overlap, min_speech_s=min_speech_s)
        measured = asyncio.run(windowing.measure(request, choices))
        chosen = windowing.choose_best(measured)
        console = Console()
        for row in measured:
            mark = "*" if row is chosen else " "
            console.print(
                f"{mark} window {row.windows.window_s:4.2f} s, hop {row.windows.hop_s:4.2f} s: "
                f"EER {row.eer:7.3%}, {row.load:.2f} s of audio for one of speech",
                highlight=False,
            )
        if output is not None:
            graph, contract = model_file.read(model)
            model_file.write(output, graph, windowing.apply(contract, chosen.windows))
