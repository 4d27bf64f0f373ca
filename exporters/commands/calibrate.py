"""`calibrate`: score calibration, fitted on trials."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from evaluation.commands.options import ModelArgument, takes_request
from evaluation.commands.terminal import say
from evaluation.experiments.request import Request
from exporters.commands.options import InPlace, OptionalOutput
from exporters.commands.terminal import choose_output
from service.contract import ScoreKind


@takes_request(ModelArgument, split="dev", listed=None, enrollments=None, max_trials=1_000_000)
def calibrate(
    request: Request,
    output: OptionalOutput = None,
    in_place: InPlace = False,
    target_false_match_rate: Annotated[
        float | None,
        typer.Option(
            help="Operating point: this share of impostors passes.",
            min=0,
            max=1,
            show_default="0.01",
        ),
    ] = None,
    cohort_split: Annotated[
        str | None,
        typer.Option(help="Also store a cohort of this split's speakers.", show_default=False),
    ] = None,
    cohort_speakers: Annotated[int, typer.Option(help="Speakers in the cohort.", min=2)] = 200,
    score: Annotated[
        ScoreKind, typer.Option(help="Fit on cosines, or after adaptive S-norm by the cohort.")
    ] = ScoreKind.COSINE,
    speech: Annotated[
        str,
        typer.Option(help="Net speech of the test side to fit at, in seconds; `full` alone: all."),
    ] = "1,2,3,5,full",
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Also fit on trials in this condition, on the test side and on both; may be given"
            " more than once, `clean` alone: as recorded only.",
            show_default="gentle line, GSM",
        ),
    ] = None,
    cohort_condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Let the cohort speak in this condition too; may be given more than once, `clean`"
            " alone: as recorded only.",
            show_default="steep and gentle line, mu-law, MP3, GSM, hum, keypad tones",
        ),
    ] = None,
) -> None:
    """Fit score calibration on trials and write it into the model's contract.

    Log-likelihood ratios are natural logarithms. The false-match thresholds come from
    cross-validation over speakers. Weights, graph and model id stay as they are.

    Example: sayso-export calibrate model.onnx --manifest manifest.csv --output calibrated.onnx
    """
    target = choose_output(request.model, output, in_place=in_place)
    from evaluation.experiments import condition_grid
    from exporters.tuning import calibrate as calibration

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
    contract = calibration.write(request.model, fitted, target)
    say(f"{contract.model_id}: {fitted.calibration.score} fitted on {fitted.calibration.fitted_on}")
    for rate, llr in fitted.calibration.false_match:
        say(f"  false-match rate {rate:7.4%}  at a log-likelihood ratio of {llr:6.2f}")
