"""Options that several commands share; importing this takes no time that `--help` would show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

ARCHITECTURES = (
    "3d-speaker-campplus",
    "3d-speaker-eres2netv2",
    "aasist",
    "aasist-l",
    "resemblyzer",
    "speechbrain-ecapa",
    "speechbrain-resnet",
    "wespeaker-campplus",
    "wespeaker-ecapa",
    *(f"wespeaker-redimnet-b{size}" for size in range(7)),
    *(f"wespeaker-resnet{layers}" for layers in (34, 221, 293)),
)

BackEnd = Literal["mean", "whitening", "lda"]
Features = Literal["wespeaker", "3d-speaker", "nemo"]
Precision = Literal["fp16", "int8"]

ModelFile = Annotated[Path, typer.Argument(help="Model file (.onnx) with its contract.")]
Output = Annotated[Path, typer.Option(help="The model file to write (.onnx).")]
OptionalOutput = Annotated[
    Path | None, typer.Option(help="The model file to write (.onnx).", show_default=False)
]
InPlace = Annotated[bool, typer.Option("--in-place", help="Change MODEL itself instead.")]
WindowS = Annotated[float, typer.Option(help="Seconds of speech in one window.")]
HopS = Annotated[float, typer.Option(help="Seconds between the starts of windows.")]
MinSpeechS = Annotated[float, typer.Option(help="Seconds of net speech below which none is made.")]
ShortS = Annotated[
    list[float],
    typer.Option(
        "--short-window-s",
        help="A shorter window, in seconds, run as it is; may be given more than once.",
        show_default=False,
    ),
]
Speech = Annotated[
    Path | None,
    typer.Option(
        help="Folder of recordings for the parity gate.",
        show_default="../shared/data, else synthesized voices",
    ),
]
