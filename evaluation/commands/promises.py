"""`sayso-evaluate promises`: whether the promised false-match rate holds in each condition."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from evaluation.commands import options
from evaluation.commands.options import takes_request
from evaluation.commands.terminal import out
from evaluation.experiments.request import Request

if TYPE_CHECKING:
    from evaluation.metrics.error_rates import Rate
    from evaluation.report.document import Document


@takes_request(split=None, listed=None, enrollments=None, max_trials=500_000, replicates=200)
def check_promises(
    request: Request,
    condition: Annotated[
        list[str] | None,
        typer.Option(help=f"Of {', '.join(options.IMPAIRMENTS)}.", show_default="all"),
    ] = None,
    output_folder: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Check the model's promised false-match rate in every condition, on one side and on both.

    Offset, hum, rumble, tones, silence, telephone lines and codecs. Writes promises.json, and
    renders the report again if there is one. The table says where the promise fails; the exit
    status is 0 all the same.

    Example: sayso-evaluate promises --model models/sayso.onnx --manifest manifest.csv --split dev
    """
    from evaluation.degrade import impairments
    from evaluation.experiments import promises
    from evaluation.report import files

    document = asyncio.run(promises.measure(request, condition or tuple(impairments.IMPAIRMENTS)))
    files.write_extra(output_folder, promises.NAME, document)
    out.print(_promise_table(document))


def _promise_table(document: Document) -> Table:
    from evaluation.degrade.impairments import CLEAN
    from evaluation.report.table import draw_table

    title = f"{document['system']} promises {document['promised']:.2%} false matches"
    table = draw_table(title)
    for column in ("condition", "on", "impostors accepted %", "enrolled rejected %", "SNR dB", ""):
        table.add_column(column)
    for row in document["rows"]:
        where = "" if row.condition == CLEAN else "both sides" if row.both_sides else "test side"
        rates = [_format_rate(rate) for rate in (row.accepted, row.rejected)]
        verdict = "holds" if row.holds else "fails"
        table.add_row(row.condition, where, *rates, f"{row.snr_db:.0f}", verdict)
    return table


def _format_rate(rate: Rate) -> str:
    value, interval = f"{100 * rate.value:.2f}", rate.interval
    if interval is None:
        return value
    return f"{value} ({100 * interval.low:.2f} to {100 * interval.high:.2f})"
