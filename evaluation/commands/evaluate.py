"""`sayso-evaluate`: one model on its trials, beside the baseline."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluation.commands import options
from evaluation.commands.options import takes_request
from evaluation.commands.terminal import Version, out, quote_command, say
from evaluation.experiments.request import Request

if TYPE_CHECKING:
    from evaluation.experiments.model_assessment import Outcome


@takes_request(
    model=options.OptionalModel,
    manifest=None,
    split=None,
    listed=None,
    enrollments=None,
    audio=None,
    same=None,
    different=None,
    across_corpora=False,
    cross_channel=False,
    baseline=True,
    max_trials=2_000_000,
    replicates=200,
)
def evaluate(
    context: typer.Context,
    request: Request,
    output_folder: options.Output = options.DEFAULT_OUTPUT,
    shard: Annotated[
        str | None,
        typer.Option(
            help="i/n, i from 0: only embed this share of the clips into --cache. Merge the"
            " caches of all shares, then evaluate from the merged one.",
            show_default=False,
        ),
    ] = None,
    version: Version = False,
) -> None:
    """Evaluate a speaker-verification model on trials: error rates with 95% intervals.

    Writes report.html, evaluation.json, det.png and scores.tsv.gz.

    EER is that of the ROC convex hull; minDCF is normalized, at target priors 0.01 and 0.05 and
    unit costs; Cllr is in bits, of likelihood ratios calibrated by cross-validation over
    speakers. Intervals come from a two-layer bootstrap over speakers and clips.

    Example: sayso-evaluate --model models/sayso.onnx --manifest manifest.csv --split dev
    """
    if context.invoked_subcommand is not None:
        return
    if request.model is None:
        raise typer.BadParameter("is needed", param_hint="--model")
    from evaluation.experiments.model_assessment import embed_share, run
    from evaluation.report import document, files
    from evaluation.trials.sampling import Shard

    if shard is not None:
        count = asyncio.run(embed_share(request, Shard.parse(shard)))
        say(f"{count:,} clips are in {request.cache}")
        return
    outcome = asyncio.run(run(request))
    made = document.describe_run(quote_command(), datetime.now(UTC))
    files.write(output_folder, {**made, **outcome.document}, outcome.model)
    _print(outcome, output_folder)


def _print(outcome: Outcome, folder: Path) -> None:
    from evaluation.report import files, table

    for assessment in filter(None, (outcome.model, outcome.baseline)):
        out.print(table.make_table(assessment.groups, assessment.system))
    for warning in outcome.document["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    scored = outcome.model.scored
    say(
        f"failure to acquire {scored.failure_to_acquire:.2%} of clips,"
        f" failure to enroll {scored.failure_to_enrol:.2%} of models:"
        f" {scored.unscored:,} trials were not scored"
    )
    say(f"the report is {folder / files.REPORT}")
