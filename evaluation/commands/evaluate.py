"""`sayso-evaluate`: one model on its trials, beside the baseline."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evaluation.commands import options
from evaluation.commands.options import exit_on_errors
from evaluation.experiments.model_assessment import Outcome, embed_share, run
from evaluation.experiments.request import Request
from evaluation.report import files, table
from evaluation.scoring import cache
from evaluation.trials.sampling import Shard
from service.inference.session import Device


def evaluate(
    context: typer.Context,
    model: options.OptionalModel = None,
    manifest: options.OptionalManifest = None,
    split: options.Split = None,
    trials: Annotated[
        Path | None,
        typer.Option(
            help="Trial list: `1 a b` (VoxCeleb), `a b 1`, `a b target` (Kaldi), or with a header"
            " (NIST, CSV)."
            " Without one, trials are all pairs of the manifest's clips within each corpus: a"
            " different corpus is a different channel and language, which tells voices apart"
            " too easily.",
            show_default=False,
        ),
    ] = None,
    enrollments: Annotated[
        Path | None,
        typer.Option(
            "--enrollments",
            "--enrolments",
            help="Enrollment map of the list: lines `model clip [clip ...]`.",
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(help="Folder of the list's files when there is no manifest."),
    ] = None,
    same: Annotated[
        list[str] | None,
        typer.Option(help="Only trials whose sides agree in this column, e.g. gender."),
    ] = None,
    different: Annotated[
        list[str] | None,
        typer.Option(help="Only trials whose sides differ in it, e.g. session or corpus."),
    ] = None,
    across_corpora: Annotated[
        bool, typer.Option("--across-corpora", help="Also pair clips of different corpora.")
    ] = False,
    cross_channel: Annotated[
        bool,
        typer.Option(
            "--cross-channel",
            help="Send each side of every trial through a simulated channel of its own: room,"
            " noise, handset, band, codec, level.",
        ),
    ] = False,
    output_folder: options.Output = options.DEFAULT_OUTPUT,
    cache_file: options.CacheFile = None,
    device: Annotated[Device, typer.Option(help="Where the model runs.")] = "auto",
    max_trials: options.MaxTrials = 2_000_000,
    baseline: Annotated[
        bool, typer.Option(help="Also evaluate mean-and-deviation MFCC on the same trials.")
    ] = True,
    shard: Annotated[
        str | None,
        typer.Option(
            help="i/n, i from 0: only embed this share of the clips into --cache. Merge the"
            " caches of all shares, then evaluate from the merged one.",
        ),
    ] = None,
    replicates: options.Replicates = 200,
    seed: options.Seed = 0,
) -> None:
    """Evaluate a speaker-verification model on trials: error rates with 95% intervals.

    Writes report.html, evaluation.json, det.png and scores.tsv.gz.

    EER is that of the ROC convex hull; minDCF is normalized, at target priors 0.01 and 0.05 and
    unit costs; Cllr is in bits, of likelihood ratios calibrated by cross-validation over
    speakers. Intervals come from a two-layer bootstrap over speakers and clips.
    """
    if context.invoked_subcommand is not None:
        return
    if model is None:
        raise typer.BadParameter("is needed", param_hint="--model")
    request = Request(
        model=model,
        manifest=manifest,
        split=split,
        listed=trials,
        audio=audio,
        cache=cache_file or cache.default_path(),
        device=device,
        max_trials=max_trials,
        across_corpora=across_corpora,
        baseline=baseline,
        replicates=replicates,
        seed=seed,
        enrollments=enrollments,
        same=tuple(same or ()),
        different=tuple(different or ()),
        cross_channel=cross_channel,
    )
    with exit_on_errors():
        if shard is not None:
            count = asyncio.run(embed_share(request, Shard.parse(shard)))
            typer.echo(f"{count:,} clips are in {request.cache}")
            return
        outcome = asyncio.run(run(request))
        files.write(output_folder, outcome.document, outcome.model)
        _print(outcome, output_folder)


def _print(outcome: Outcome, folder: Path) -> None:
    console = Console()
    for assessment in filter(None, (outcome.model, outcome.baseline)):
        console.print(table.make_table(assessment.groups, assessment.system))
    for warning in outcome.document["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    scored = outcome.model.scored
    console.print(
        f"failure to acquire {scored.failure_to_acquire:.2%} of clips,"
        f" failure to enrol {scored.failure_to_enrol:.2%} of models:"
        f" {scored.unscored:,} trials were not scored"
    )
    console.print(f"the report is {folder / files.REPORT}")
