"""`backend`: a projection after the embedding."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from evaluation.commands.options import ModelArgument, takes_request
from evaluation.commands.terminal import say
from evaluation.experiments.request import Request
from exporters.commands.options import BackEnd, Output


@takes_request(ModelArgument, split="dev", cross_channel=False, replicates=200)
def backend(
    request: Request,
    output: Output,
    kind: Annotated[
        BackEnd, typer.Option(help="Center only, decorrelate too, or separate speakers.")
    ] = "whitening",
    clips: Annotated[
        int, typer.Option(help="Clips of the split to judge on, evenly over speakers.", min=2)
    ] = 600,
    fit_split: Annotated[str, typer.Option(help="Split of other speakers, to fit on.")] = "train",
    fit_clips: Annotated[int, typer.Option(help="Clips of it to take.", min=2)] = 2000,
    lda_dim: Annotated[int, typer.Option(help="Dimensions that LDA keeps.", min=1)] = 100,
    force: Annotated[
        bool, typer.Option("--force", help="Write it though it does not help.")
    ] = False,
) -> None:
    """Put mean subtraction, whitening or LDA into the graph, if that helps.

    Fitted on speakers of one split and judged on those of another, both models run as the service
    runs them. Written only if EER is shown to be lower on some trials and higher on none, with a
    model id of its own and no calibration: run sayso-export calibrate on it.

    Example: sayso-export backend model.onnx --manifest manifest.csv --kind lda --output lda.onnx
    """
    from exporters.tuning import backend as backends

    fitting = backends.Fitting(backends.Kind(kind), fit_split, fit_clips, lda_dim)
    contract, judgments = asyncio.run(
        backends.publish(request, fitting, output, clips=clips, force=force)
    )
    for row in judgments:
        say(str(row))
    say(f"{output}: {contract.model_id}, calibration none")
