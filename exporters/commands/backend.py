"""`backend`: a projection after the embedding."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evaluation.experiments.request import Request
from evaluation.scoring import cache
from exporters.commands.options import CacheFile, Output
from exporters.commands.terminal import print_errors
from exporters.tuning import backend as backends
from service.inference.session import Device


def backend(
    model: Annotated[Path, typer.Argument(help="A model file with its contract.")],
    manifest: Annotated[Path, typer.Option(help="CSV of clips: path, speaker, corpus, split.")],
    output: Output,
    kind: Annotated[
        backends.Kind, typer.Option(help="Centre only, decorrelate too, or separate speakers.")
    ] = backends.Kind.WHITENING,
    split: Annotated[str, typer.Option(help="The manifest's split to judge on.")] = "dev",
    clips: Annotated[
        int, typer.Option(help="Clips to judge on, evenly over its speakers.", min=2)
    ] = 600,
    fit_split: Annotated[str, typer.Option(help="Split of other speakers, to fit on.")] = "train",
    fit_clips: Annotated[int, typer.Option(help="Clips of it to take.", min=2)] = 2000,
    lda_dim: Annotated[int, typer.Option(help="Dimensions that LDA keeps.", min=1)] = 100,
    cross_channel: Annotated[
        bool,
        typer.Option("--cross-channel", help="Fit and judge through simulated channels, too."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write it though it does not help.")
    ] = False,
    replicates: Annotated[int, typer.Option(help="Bootstrap draws.", min=2)] = 200,
    cache_file: CacheFile = None,
    device: Annotated[Device, typer.Option(help="Where inference runs.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
) -> None:
    """Put mean subtraction, whitening or LDA into the graph, where that helps.

    Fitted on speakers of one split and judged on those of another, both models run as the service
    runs them. Written only if EER is shown to be lower on some trials and higher on none, with a
    model id of its own and no calibration: run sayso-export calibrate on it.
    """
    request = Request(
        model=model,
        manifest=manifest,
        split=split,
        cache=cache_file or cache.default_path(),
        device=device,
        cross_channel=cross_channel,
        replicates=replicates,
        seed=seed,
    )
    with print_errors():
        fitting = backends.Fitting(kind, fit_split, fit_clips, lda_dim)
        contract, judgments = asyncio.run(
            backends.publish(request, fitting, output, clips=clips, force=force)
        )
        console = Console()
        for row in judgments:
            console.print(str(row), soft_wrap=True, highlight=False)
        console.print(f"{output}: {contract.model_id}, calibration none", highlight=False)
