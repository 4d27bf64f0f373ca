"""`record`: what a model measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from exporters.commands.terminal import print_errors
from exporters.tuning import record


def record_evaluation(
    model: Annotated[Path, typer.Argument(help="A model file with its contract.")],
    report: Annotated[Path, typer.Argument(help="evaluation.json, as sayso-evaluate writes it.")],
    output: Annotated[Path | None, typer.Option(help="Write here. [MODEL itself]")] = None,
) -> None:
    """Store what a model measured in its contract: EER by corpus, and the report's digest."""
    with print_errors():
        contract = record.write(model, report, output)
        Console().print(f"{contract.model_id}: {contract.evaluation['report']}", soft_wrap=True)
