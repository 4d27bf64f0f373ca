"""`sayso-evaluate conditions`: error rates by length, noise and codec of the test side."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from evaluation.commands import options
from evaluation.commands.options import exit_on_errors, make_request
from evaluation.degrade import codecs, conditions
from evaluation.experiments import condition_grid
from evaluation.report import files
from evaluation.report.document import Document
from evaluation.report.table import draw_table


def measure_conditions(
    model: options.Model,
    manifest: options.Manifest,
    split: options.Split = None,
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
        typer.Option(help=f"Of {', '.join(conditions.CODEC_NAMES)}. [all that can be used here]"),
    ] = None,
    output_folder: options.Output = options.DEFAULT_OUTPUT,
    cache_file: options.CacheFile = None,
    device: options.DeviceOption = "auto",
    replicates: options.Replicates = 100,
    seed: options.Seed = 0,
) -> None:
    """Degrade the test side and print EER by net speech, noise and codec.

    Noise has the speech's own spectrum. Writes conditions.json, and renders the report
    again if there is one.
    """
    with exit_on_errors():
        asked = conditions.list_conditions(
            condition_grid.parse_lengths(speech),
            condition_grid.parse_noises(snr),
            codecs.list_available() if codec is None else codec.split(","),
        )
        request = make_request(model, manifest, split, cache_file, device, replicates, seed)
        document = asyncio.run(condition_grid.measure(request, list(asked), clips=clips))
        files.write_extra(output_folder, condition_grid.NAME, document)
        Console().print(_grid_table(document))


def _grid_table(document: Document) -> Table:
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
