"""`sayso-evaluate tune`, also `sayso tune`: scores and thresholds that fit an operator's calls."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from evaluation.commands import options
from evaluation.commands.terminal import out, quote_command, say

if TYPE_CHECKING:
    from evaluation.report.document import Document


def tune(
    model: options.ModelArgument,
    recordings: Annotated[
        Path,
        typer.Argument(
            help="Folder of recordings, or a CSV: path and, where known, speaker, session and"
            " labels such as line or codec."
        ),
    ],
    output_folder: Annotated[
        Path, typer.Option("--output", help="Folder for the tuned model and the report.")
    ] = Path("tuned"),
    split: Annotated[
        str | None, typer.Option(help="Only the recordings of this split of the CSV.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Embeddings kept between runs.",
            show_default="~/.cache/sayso/embeddings.sqlite",
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt"], typer.Option(help="Where the model runs.")
    ] = "auto",
    max_trials: Annotated[
        int, typer.Option(help="Draw this many pairs when there are more.", min=1000)
    ] = 200_000,
    replicates: Annotated[
        int, typer.Option(help="Bootstrap draws for the 95% intervals.", min=50)
    ] = 200,
    seed: options.Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: one object.")] = False,
) -> None:
    """Fit a model's scores and thresholds to your own calls; weights and enrolled voices stay.

    Scores, calibration and thresholds are judged on speakers that they were not fitted on, and
    kept only if they are shown to help. Writes report.html, tuning.json and, if something helps,
    the tuned model with its digest. It holds voices of the recordings: guard it like them.

    Example: sayso-evaluate tune models/sayso.onnx calls.csv --output tuned
    """
    from evaluation.report import document, page
    from evaluation.scoring import cache as embedding_cache
    from evaluation.tuning import model_file
    from evaluation.tuning.tune import Request
    from evaluation.tuning.tune import tune as tune_contract

    target = output_folder / model.name
    model_file.require_other(model, target)
    tuned = asyncio.run(
        tune_contract(
            Request(
                model=model,
                recordings=recordings,
                split=split,
                cache=cache or embedding_cache.default_path(),
                device=device,
                max_trials=max_trials,
                replicates=replicates,
                seed=seed,
            )
        )
    )
    run = document.describe_run(quote_command(), datetime.now(UTC))
    written = {"tuned": None if tuned.contract is None else str(target)}
    output_folder.mkdir(parents=True, exist_ok=True)
    if tuned.contract is not None:
        model_file.write_contract(model, tuned.contract, target)
    path = output_folder / "tuning.json"
    document.write(path, {**run, **tuned.document, **written})
    told = document.read(path)
    report = output_folder / "report.html"
    report.write_text(page.render_tuning(told), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(told))
        return
    _print(told, report)


def _print(told: Document, report: Path) -> None:
    from evaluation.report import tuning

    for sentence in tuning.describe_line(told["line"]):
        say(sentence)
    if told["scores"]:
        out.print(_score_table(told))
    if told["before"]:
        out.print(_rate_table(told))
    for sentence in tuning.describe_result(told):
        say(sentence)
    say(f"the report is {report}")


def _score_table(told: Document) -> Table:
    from evaluation.report.table import draw_table

    table = draw_table("each score, on speakers and with voices it was not fitted on")
    for column in ("score", "EER %", "less the model's own, points", "shown to help"):
        table.add_column(column)
    for row in told["scores"]:
        interval = row["difference"]
        less = interval and f"{100 * interval['low']:+.2f} .. {100 * interval['high']:+.2f}"
        helps = "" if interval is None else "yes" if row["helps"] else "no"
        table.add_row(row["name"], f"{100 * row['eer']:.2f}", less or "", helps)
    return table


def _rate_table(told: Document) -> Table:
    from evaluation.report import tuning
    from evaluation.report.table import draw_table

    table = draw_table("on whole recordings")
    table.add_column("")
    columns = [name for name in ("before", "after") if told[name]]
    for name in columns:
        table.add_column(name, no_wrap=True)
    for row in tuning.list_rates(told):
        table.add_row(row.name, *(getattr(row, name) for name in columns))
    return table
