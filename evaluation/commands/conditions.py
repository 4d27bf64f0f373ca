"""`sayso-evaluate conditions`: error rates by length, noise and codec of the test side."""

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
    from evaluation.report.document import Document


@takes_request(split=None, replicates=100)
def measure_conditions(
    request: Request,
    clips: Annotated[
        int, typer.Option(help="Clips to take, evenly over the speakers.", min=2)
    ] = 400,
    speech: Annotated[
        str, typer.Option(help="Net speech of the test side, seconds.")
    ] = "1,2,3,5,full",
    snr: Annotated[
        str, typer.Option(help="Signal-to-noise ratios of the test side, dB.")
    ] = "clean,20,10,5",
    codec: Annotated[
        str | None,
        typer.Option(
            help=f"Of {', '.join(options.CODECS)}.", show_default="all that can be used here"
        ),
    ] = None,
    output_folder: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Degrade the test side and print EER by net speech, noise and codec.

    Noise has the speech's own spectrum. Writes conditions.json, and renders the report
    again if there is one.

    Example: sayso-evaluate conditions --model models/sayso.onnx --manifest manifest.csv
    --speech 1,3,full --codec mulaw,opus
    """
    from evaluation.degrade import codecs, conditions
    from evaluation.experiments import condition_grid
    from evaluation.report import files

    wanted = conditions.list_conditions(
        condition_grid.parse_lengths(speech),
        condition_grid.parse_noises(snr),
        codecs.list_available() if codec is None else codec.split(","),
    )
    document = asyncio.run(condition_grid.measure(request, list(wanted), clips=clips))
    files.write_extra(output_folder, condition_grid.NAME, document)
    out.print(_grid_table(document))


def _grid_table(document: Document) -> Table:
    from evaluation.report.table import draw_table

    cells = {(cell["channel"], cell["length"]): cell["figures"] for cell in document["cells"]}
    lengths = list(dict.fromkeys(length for _, length in cells))
    table = draw_table(f"EER %, {document['told']}")
    table.add_column("test side")
    for length in lengths:
        table.add_column(length, justify="right")
    for channel in dict.fromkeys(channel for channel, _ in cells):
        rates = [f"{100 * cells[channel, length].eer.value:.2f}" for length in lengths]
        table.add_row(channel, *rates)
    return table
