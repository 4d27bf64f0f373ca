"""`record`: what a model measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands.terminal import say
from exporters.commands.options import InPlace, ModelFile, OptionalOutput
from exporters.commands.terminal import choose_output


def record_evaluation(
    model: ModelFile,
    report: Annotated[Path, typer.Argument(help="evaluation.json, as sayso-evaluate writes it.")],
    output: OptionalOutput = None,
    in_place: InPlace = False,
) -> None:
    """Store what a model measured in its contract: EER by corpus, and the report's digest.

    Example: sayso-export record model.onnx evaluation-report/evaluation.json --in-place
    """
    target = choose_output(model, output, in_place=in_place)
    from exporters.tuning import record

    contract = record.write(model, report, target)
    say(f"{contract.model_id}: {contract.evaluation['report']}")
