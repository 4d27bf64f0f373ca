"""`windows`: window and hop, by measurement."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from evaluation.commands.options import ModelArgument, takes_request
from evaluation.commands.terminal import say
from evaluation.experiments.request import Request
from exporters.commands.options import MinSpeechS, OptionalOutput


@takes_request(ModelArgument, split="dev", max_trials=1_000_000)
def windows(
    request: Request,
    window_s: Annotated[
        list[float], typer.Option(help="A window to try, in seconds; may be given more than once.")
    ] = [1.5, 2.0, 3.0, 4.0],  # noqa: B006
    overlap: Annotated[
        list[float],
        typer.Option(help="Share of a window that the next repeats; may be given more than once."),
    ] = [0.5],  # noqa: B006
    min_speech_s: MinSpeechS = 0.5,
    output: OptionalOutput = None,
) -> None:
    """Choose window and hop by measurement, on trials run as the service runs them.

    The choice is the one that runs the least audio through the model, the shorter if equal,
    among those whose EER is within 3% of the least. With --output the model is written with the
    choice; it has to be calibrated again.

    Example: sayso-export windows model.onnx --manifest manifest.csv --window-s 2 --window-s 3
    """
    from exporters import model_file
    from exporters.tuning import windows as windowing

    choices = windowing.list_choices(window_s, overlaps=overlap, min_speech_s=min_speech_s)
    measured = asyncio.run(windowing.measure(request, choices))
    chosen = windowing.choose_best(measured)
    for row in measured:
        mark = "*" if row is chosen else " "
        say(
            f"{mark} window {row.windows.window_s:4.2f} s, hop {row.windows.hop_s:4.2f} s: "
            f"EER {row.eer:7.3%}, {row.load:.2f} s of audio for one of speech"
        )
    if output is not None:
        graph, contract = model_file.read(request.model)
        model_file.write(output, graph, windowing.apply(contract, chosen.windows))
