"""`countermeasure`: a checkpoint that tells bona fide speech from spoofed, as a model file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluation.commands.terminal import say, show_steps
from exporters.commands.options import Output, Speech

if TYPE_CHECKING:
    from exporters.countermeasures import CountermeasureCandidate


def countermeasure(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="RUN/last.pt.")],
    output: Output,
    name: Annotated[
        str, typer.Option(help="Name that the model id starts with.")
    ] = "countermeasure",
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the contract.")] = "",
    speech: Speech = None,
) -> None:
    """Export a checkpoint of `sayso-train countermeasure` for `sayso-evaluate spoofing --model`.

    The graph's logits are compared with PyTorch's; if they differ by more than 0.0001, nothing is
    written. The contract has no calibration, since nothing has been measured.

    Example: sayso-export countermeasure runs/countermeasure/last.pt --output countermeasure.onnx
    """
    with show_steps() as show:
        show("loading PyTorch")
        from exporters.sources.countermeasure import make_candidate

        candidate = make_candidate(source, name=name, licence=licence)
        line = publish_countermeasure(candidate, output, speech, show)
    say(line)


def publish_countermeasure(
    candidate: CountermeasureCandidate,
    output: Path,
    speech: Path | None,
    show: Callable[[str], None],
) -> str:
    """Publish behind the parity gate, and describe the file in a line."""
    from exporters import model_file
    from exporters.countermeasures import publish

    contract = publish(candidate, output, speech=speech, on_step=show)
    proof = contract.provenance["parity"]
    return (
        f"{output}: {contract.model_id}, {output.stat().st_size / 1e6:.2f} MB, logits within "
        f"{proof['logit_difference']:.1e} on {proof['speech']}, uncalibrated, "
        f"{model_file.digest(output)}"
    )
