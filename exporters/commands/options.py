"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[Path, typer.Option(help="The model file to write (.onnx).")]
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
        help="Folder of recordings for the parity gate. [../shared/data, else made voices]",
        show_default=False,
    ),
]

CacheFile = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Embeddings kept between runs. [~/.cache/sayso/embeddings.sqlite]",
        show_default=False,
    ),
]
