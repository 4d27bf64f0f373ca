"""`sayso-evaluate backends`: cosine beside score normalization and back-ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from evaluation.commands import options
from evaluation.commands.options import takes_request
from evaluation.commands.terminal import out
from evaluation.experiments.request import Request

if TYPE_CHECKING:
    from evaluation.report.document import Document


@takes_request(split="dev", max_trials=500_000, replicates=100)
def compare_back_ends(
    request: Request,
    fit_split: Annotated[
        str, typer.Option(help="Split of other speakers, for cohort and back-ends.")
    ] = "train",
    fit_clips: Annotated[
        int, typer.Option(help="Clips of it to take, evenly over the speakers.", min=2)
    ] = 2000,
    top_n: Annotated[
        int, typer.Option(help="Nearest cohort speakers that adaptive S-norm looks at.", min=2)
    ] = 100,
    lda_dim: Annotated[int, typer.Option(help="Dimensions that LDA keeps.", min=1)] = 100,
    output_folder: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Compare cosine with Z, T, S and adaptive S-norm, mean subtraction, whitening, LDA, PLDA.

    Each with a paired bootstrap against plain cosine. Writes score_variants.json, and renders the
    report again if there is one.

    Example: sayso-evaluate backends --model models/sayso.onnx --manifest manifest.csv
    """
    from evaluation.experiments import score_variants
    from evaluation.report import files

    document = asyncio.run(
        score_variants.measure(
            replace(request, replicates=max(request.replicates, 2)),
            fit_split=fit_split,
            fit_clips=fit_clips,
            top_n=top_n,
            lda_dim=lda_dim,
        )
    )
    files.write_extra(output_folder, score_variants.NAME, document)
    out.print(_variant_table(document))


def _variant_table(document: Document) -> Table:
    from evaluation.report.table import draw_table

    table = draw_table(document["told"])
    for column in ("score", "EER %", "minDCF 0.01", "less cosine, points", "verdict"):
        table.add_column(column, no_wrap=column == "verdict")
    for row in document["rows"]:
        interval = row["difference"]
        less = (
            "" if interval is None else f"{100 * interval.low:+.2f} .. {100 * interval.high:+.2f}"
        )
        rates = (f"{100 * row['eer']:.2f}", f"{row['min_dcf'][0.01]:.3f}")
        table.add_row(row["name"], *rates, less, row["verdict"])
    return table
