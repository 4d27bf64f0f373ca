"""`sayso-evaluate scores`: another system, evaluated by its scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evaluation.commands import options
from evaluation.commands.options import exit_on_errors
from evaluation.experiments import external_scores
from evaluation.report import files, table


def evaluate_scores(
    file: Annotated[
        Path,
        typer.Argument(
            help="Lines `enrol test score`, `enrol test target score`, `enrol test 1 score` or"
            " `enrol test score target`, or with a header; also gzip."
        ),
    ],
    trials: Annotated[
        Path | None, typer.Option(help="Trial list, when the file has no labels of its own.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="The file's columns in their order: enrol, test, score, label, and - for one to"
            " leave alone, such as `label,enrol,test,score`."
        ),
    ] = None,
    manifest: options.OptionalManifest = None,
    output_folder: options.Output = options.DEFAULT_OUTPUT,
    replicates: options.Replicates = 200,
    seed: options.Seed = 0,
) -> None:
    """Evaluate another system by its scores: all figures and the report."""
    with exit_on_errors():
        judged, document = external_scores.assess(
            file,
            listed=trials,
            known=manifest,
            columns=columns,
            replicates=replicates,
            seed=seed,
        )
        for warning in document["warnings"]:
            typer.echo(f"warning: {warning}", err=True)
        Console().print(table.make_table(judged.groups, judged.system))
        files.write(output_folder, document, judged)
        typer.echo(f"the report is {output_folder / files.REPORT}")
