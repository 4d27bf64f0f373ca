"""`sayso-evaluate`: how good a model is, on whose voices, and how sure that is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evaluation import cache, output, table
from evaluation.errors import EvaluationError
from evaluation.run import Request, run
from service.errors import SaysoError
from service.session import Device

app = typer.Typer(
    name="sayso-evaluate", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@app.callback(invoke_without_command=True)
def evaluate(
    context: typer.Context,
    model: Annotated[
        Path | None,
        typer.Option(help="Model file (.onnx) with its contract.", show_default=False),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="CSV of clips: path, speaker, and where known corpus, split, labels.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Only the manifest's clips of this split.")
    ] = None,
    trials: Annotated[
        Path | None,
        typer.Option(
            help="Trial list, VoxCeleb format (`1 a b`: same speaker). Without one, trials are all"
            " pairs of the manifest's clips within each corpus: a different corpus is a different"
            " channel and language, which tells voices apart too easily.",
            show_default=False,
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(help="Folder of the list's files when there is no manifest."),
    ] = None,
    output_folder: Annotated[
        Path,
        typer.Option("--output", help="Folder for det.png, scores.tsv.gz and evaluation.json."),
    ] = Path("evaluation-report"),
    cache_file: Annotated[
        Path | None,
        typer.Option("--cache", help="Embeddings kept between runs. [~/.cache/sayso]"),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the model runs.")] = "auto",
    max_trials: Annotated[
        int, typer.Option(help="Draw this many trials when there are more pairs.", min=2)
    ] = 2_000_000,
    across_corpora: Annotated[
        bool, typer.Option("--across-corpora", help="Also pair clips of different corpora.")
    ] = False,
    baseline: Annotated[
        bool, typer.Option(help="Also evaluate mean-and-deviation MFCC on the same trials.")
    ] = True,
    replicates: Annotated[
        int, typer.Option(help="Bootstrap replicates for the 95% intervals; 0 for none.", min=0)
    ] = 200,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
) -> None:
    """Evaluate a speaker-verification model on trials: error rates with 95% intervals.

    EER is that of the ROC convex hull; minDCF is normalised, at target priors 0.01 and 0.05 and
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
    )
    with _errors_told():
        judged, yardstick = asyncio.run(run(request))
        console = Console()
        for assessment in filter(None, (judged, yardstick)):
            console.print(table.of(assessment.groups, assessment.system))
        scored = judged.scored
        console.print(
            f"failure to acquire {scored.failure_to_acquire:.2%} of clips,"
            f" failure to enrol {scored.failure_to_enrol:.2%} of models,"
            f" {scored.unscored:,} trials not scored for it"
        )
        output.write(output_folder, judged, yardstick)
        console.print(f"det.png, {output.SCORES} and evaluation.json are in {output_folder}")


@contextmanager
def _errors_told() -> Iterator[None]:
    """One clear line and exit status 2 for what the user can correct."""
    try:
        yield
    except (EvaluationError, SaysoError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    app()
