"""`checkpoint` and `adopt`: what becomes a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from exporters import model_file
from exporters.commands.options import HopS, MinSpeechS, Output, ShortS, Speech, WindowS
from exporters.commands.terminal import print_errors
from exporters.errors import ExportError
from exporters.publish import Candidate, Windows, publish
from exporters.sources import ARCHITECTURES
from exporters.sources import adopt as adoption
from exporters.sources import checkpoint as checkpoints
from exporters.sources.graft import Features
from service.contract import Contract


def checkpoint(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="RUN/best.pt.")],
    output: Output,
    name: Annotated[str, typer.Option(help="Name that the model id starts with.")] = "sayso",
    window_s: WindowS = 3.0,
    hop_s: HopS = 1.5,
    min_speech_s: MinSpeechS = 0.5,
    short_window_s: ShortS = [],  # noqa: B006
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the contract.")] = "",
    speech: Speech = None,
) -> None:
    """Export a checkpoint of `sayso-train`.

    The graph is compared with PyTorch on speech, at several lengths and batch sizes; below a
    cosine of 0.99999 nothing is written.
    """
    with print_errors():
        windows = Windows(window_s, hop_s, min_speech_s, tuple(short_window_s))
        _publish(
            checkpoints.make_candidate(source, name=name, windows=windows, licence=licence),
            output,
            speech,
        )


def adopt(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE|URL",
            help="A name (resemblyzer), a checkpoint or ONNX file, or the address of one.",
        ),
    ],
    output: Output,
    architecture: Annotated[
        str | None,
        typer.Option(help=f"What a checkpoint holds: {', '.join(sorted(ARCHITECTURES))}."),
    ] = None,
    features: Annotated[
        Features | None,
        typer.Option(help="What an ONNX file starts at. [as its metadata says]"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name that the model id starts with.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights. [the model's own, where known]")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="Where the weights come from. [SOURCE]")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Hex digest that SOURCE must have; needed for a URL.")
    ] = None,
    window_s: Annotated[
        float | None, typer.Option(help="Seconds of speech in one window. [the model's own, or 3]")
    ] = None,
    hop_s: Annotated[
        float | None, typer.Option(help="Seconds between the starts of windows. [half a window]")
    ] = None,
    min_speech_s: MinSpeechS = 0.5,
    speech: Speech = None,
) -> None:
    """Turn a published model into a model file: waveform in, its own front end in the graph.

    The graph is compared with the model's own code on speech; below a cosine of 0.99999 nothing
    is written. Checkpoints are read as plain tensors: no code in them is run.
    """
    with print_errors():
        windows = None
        if window_s is not None:
            windows = Windows(window_s, hop_s or window_s / 2, min_speech_s)
        elif hop_s is not None:
            raise ExportError("--hop-s needs --window-s")
        request = adoption.Request(
            source=source,
            architecture=architecture,
            features=features,
            name=name,
            windows=windows,
            licence=licence,
            origin=origin,
            sha256=sha256,
        )
        with adoption.make_candidate(request) as candidate:
            _publish(candidate, output, speech)


def _publish(candidate: Candidate, output: Path, speech: Path | None) -> Contract:
    contract = publish(candidate, output, speech=speech)
    proof = contract.provenance["parity"]
    Console().print(
        f"{output}: {contract.model_id}, {output.stat().st_size / 1e6:.1f} MB, "
        f"parity {proof['cosine']:.7f} on {proof['speech']}, {model_file.digest(output)}",
        soft_wrap=True,
        highlight=False,
    )
    return contract
