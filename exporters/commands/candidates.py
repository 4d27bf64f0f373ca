"""`checkpoint` and `adopt`: what becomes a model file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluation.commands.terminal import say, show_steps
from exporters.commands.countermeasure import publish_countermeasure
from exporters.commands.options import (
    ARCHITECTURES,
    Features,
    HopS,
    MinSpeechS,
    Output,
    ShortS,
    Speech,
    WindowS,
)
from exporters.errors import ExportError

if TYPE_CHECKING:
    from exporters.publish import Candidate


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

    Example: sayso-export checkpoint runs/first/best.pt --output model.onnx
    """
    with show_steps() as show:
        show("loading PyTorch")
        from exporters.publish import Windows
        from exporters.sources import checkpoint as checkpoints

        windows = Windows(window_s, hop_s, min_speech_s, tuple(short_window_s))
        show(f"exporting {source}")
        candidate = checkpoints.make_candidate(source, name=name, windows=windows, licence=licence)
        line = _publish(candidate, output, speech, show)
    say(line)


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
        typer.Option(
            help=f"What a checkpoint holds: {', '.join(ARCHITECTURES)}.", show_default=False
        ),
    ] = None,
    features: Annotated[
        Features | None,
        typer.Option(help="What an ONNX file starts at.", show_default="as its metadata says"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name that the model id starts with.", show_default="the model's own"),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(help="Licence of the weights.", show_default="the model's own, if known"),
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="Where the weights come from.", show_default="SOURCE")
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(
            help="Hex digest that SOURCE must have; needed for a URL.", show_default=False
        ),
    ] = None,
    window_s: Annotated[
        float | None,
        typer.Option(help="Seconds of speech in one window.", show_default="the model's own, or 3"),
    ] = None,
    hop_s: Annotated[
        float | None,
        typer.Option(help="Seconds between the starts of windows.", show_default="half a window"),
    ] = None,
    min_speech_s: MinSpeechS = 0.5,
    speech: Speech = None,
) -> None:
    """Turn a published model into a model file: waveform in, its own front end in the graph.

    The graph is compared with the model's own code on speech; below a cosine of 0.99999 nothing
    is written, nor if a logit of a countermeasure (aasist, aasist-l) is off by more than 0.0001.
    Checkpoints are read as plain tensors: no code in them is run.

    Example: sayso-export adopt resemblyzer --output resemblyzer.onnx
    """
    if hop_s is not None and window_s is None:
        raise ExportError("--hop-s needs --window-s")
    with show_steps() as show:
        show("loading PyTorch")
        from exporters.publish import Windows
        from exporters.sources import COUNTERMEASURES
        from exporters.sources import adopt as adoption

        windows = None
        if window_s is not None:
            windows = Windows(window_s, hop_s or window_s / 2, min_speech_s)
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
        show(f"reading {source}")
        if architecture in COUNTERMEASURES:
            with adoption.make_countermeasure(request) as countermeasure:
                line = publish_countermeasure(countermeasure, output, speech, show)
        else:
            with adoption.make_candidate(request) as candidate:
                line = _publish(candidate, output, speech, show)
    say(line)


def _publish(
    candidate: Candidate, output: Path, speech: Path | None, show: Callable[[str], None]
) -> str:
    """Publish behind the parity gate, and describe the file in a line."""
    from exporters import model_file
    from exporters.publish import publish

    contract = publish(candidate, output, speech=speech, on_step=show)
    proof = contract.provenance["parity"]
    return (
        f"{output}: {contract.model_id}, {output.stat().st_size / 1e6:.1f} MB, "
        f"parity {proof['cosine']:.7f} on {proof['speech']}, {model_file.digest(output)}"
    )
