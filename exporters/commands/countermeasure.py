"""`countermeasure`: a checkpoint that tells bona fide speech from spoofed, as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands.terminal import say
from exporters.commands.options import Output


def countermeasure(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="RUN/last.pt.")],
    output: Output,
) -> None:
    """Export a checkpoint of `sayso-train countermeasure` for `sayso-evaluate spoofing --model`.

    The graph's logits are compared with PyTorch's; if they differ by 0.0001, nothing is written.

    Example: sayso-export countermeasure runs/countermeasure/last.pt --output countermeasure.onnx
    """
    from exporters.model_file import write_atomically
    from exporters.sources.countermeasure import make_graph

    data = make_graph(source).SerializeToString(deterministic=True)
    write_atomically(output, data)
    say(f"{output}: {len(data) / 1e6:.2f} MB")
