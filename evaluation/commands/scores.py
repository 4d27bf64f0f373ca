"""`sayso-evaluate scores`: another system, evaluated by its scores."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands import options
from evaluation.commands.terminal import out, quote_command, say


def evaluate_scores(
    file: Annotated[
        Path,
        typer.Argument(
            help="Lines `enroll test score`, `enroll test target score`, `enroll test 1 score` or"
            " `enroll test score target`, or with a header; also gzip."
        ),
    ],
    trials: Annotated[
        Path | None,
        typer.Option(
            help="Trial list, when the file has no labels of its own.", show_default=False
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="The file's columns in their order: enrol, test, score, label, and - for one to"
            " leave alone, such as `label,enrol,test,score`.",
            show_default="as the lines look",
        ),
    ] = None,
    manifest: options.Manifest = None,
    output_folder: options.Output = options.DEFAULT_OUTPUT,
    replicates: options.Replicates = 200,
    seed: options.Seed = 0,
) -> None:
    """Evaluate another system by its scores: all figures and the report.

    Example: sayso-evaluate scores their-scores.txt --trials trials.txt
    """
    from evaluation.experiments import external_scores
    from evaluation.report import document, files, table

    assessment, described = external_scores.assess(
        file, listed=trials, known=manifest, columns=columns, replicates=replicates, seed=seed
    )
    for warning in described["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    out.print(table.make_table(assessment.groups, assessment.system))
    made = document.describe_run(quote_command(), datetime.now(UTC))
    files.write(output_folder, {**made, **described}, assessment)
    say(f"the report is {output_folder / files.REPORT}")
