"""`calibrate`: score calibration, fitted on trials."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evaluation.experiments import condition_grid
from evaluation.experiments.request import Request
from evaluation.scoring import cache
from exporters.commands.options import CacheFile
from exporters.commands.terminal import print_errors
from exporters.tuning import calibrate as calibration
from service.contract import ScoreKind
from service.inference.session import Device


def calibrate(
    model: Annotated[Path, typer.Argument(help="A model file with its contract.")],
    manifest: Annotated[Path, typer.Option(help="CSV of clips: path, speaker, corpus, split.")],
    split: Annotated[str, typer.Option(help="The manifest's split to fit on.")] = "dev",
    trials: Annotated[
        Path | None,
        typer.Option(help="Trial list: `1 a b`, or `a b target`. [pairs within a corpus]"),
    ] = None,
    enrollments: Annotated[
        Path | None,
        typer.Option(
            "--enrollments",
            "--enrolments",
            help="Enrollment map of the list: lines `model clip [clip ...]`.",
        ),
    ] = None,
    target_false_match_rate: Annotated[
        float | None,
        typer.Option(help="Operating point: this share of impostors passes. [0.01]", min=0, max=1),
    ] = None,
    cohort_split: Annotated[
        str | None, typer.Option(help="Also store a cohort of this split's speakers.")
    ] = None,
    cohort_speakers: Annotated[int, typer.Option(help="Speakers in the cohort.", min=2)] = 200,
    score: Annotated[
        ScoreKind, typer.Option(help="Fit on cosines, or after adaptive S-norm by the cohort.")
    ] = ScoreKind.COSINE,
    speech: Annotated[
        str,
        typer.Option(help="Net speech of the heard side to fit at, in seconds; `full` alone: all."),
    ] = "1,2,3,5,full",
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Also fit on trials in this condition, on the heard side and on both; may be given"
            " more than once, `clean` alone: as recorded only. [gentle line, GSM]",
            show_default=False,
        ),
    ] = None,
    cohort_condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Let the cohort speak in this condition too; may be given more than once, `clean`"
            " alone: as recorded only. [steep and gentle line, mu-law, MP3, GSM, hum, keypad"
            " tones]",
            show_default=False,
        ),
    ] = None,
    max_trials: Annotated[int, typer.Option(help="Draw this many at most.", min=2)] = 1_000_000,
    output: Annotated[Path | None, typer.Option(help="Write here. [MODEL itself]")] = None,
    cache_file: CacheFile = None,
    device: Annotated[Device, typer.Option(help="Where inference runs.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
) -> None:
    """Fit score calibration on trials and write it into the model's contract.

    Log-likelihood ratios are natural logarithms. The false-match thresholds come from
    cross-validation over speakers. Weights, graph and model id stay as they are.
    """
    request = Request(
        model=model,
        manifest=manifest,
        split=split,
        listed=trials,
        enrollments=enrollments,
        cache=cache_file or cache.default_path(),
        device=device,
        max_trials=max_trials,
        seed=seed,
    )
    with print_errors():
        fitted = asyncio.run(
            calibration.fit(
                request,
                target_false_match_rate=target_false_match_rate,
                cohort_split=cohort_split,
                cohort_speakers=cohort_speakers,
                kind=score,
                lengths_s=condition_grid.parse_lengths(speech),
                conditions=condition or calibration.CONDITIONS,
                cohort_conditions=cohort_condition or calibration.COHORT_CONDITIONS,
            )
        )
        contract = calibration.write(model, fitted, output)
        console = Console()
        console.print(
            f"{contract.model_id}: {fitted.calibration.score} fitted on "
            f"{fitted.calibration.fitted_on}"
        )
        for rate, llr in fitted.calibration.false_match:
            console.print(
                f"  false-match rate {rate:7.4%}  at a log-likelihood ratio of {llr:6.2f}"
            )
