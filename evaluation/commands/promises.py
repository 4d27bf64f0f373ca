"""`sayso-evaluate promises`: whether the promised false-match rate holds in each condition."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from evaluation.commands import options
from evaluation.commands.options import exit_on_errors, make_request
from evaluation.degrade import impairments
from evaluation.degrade.impairments import CLEAN
from evaluation.experiments import promises
from evaluation.metrics.error_rates import Rate
from evaluation.report import files
from evaluation.report.document import Document
from evaluation.report.table import draw_table


def check_promises(
    model: options.Model,
    manifest: options.Manifest,
    split: options.Split = None,
    trials: Annotated[
        Path | None, typer.Option(help="Trial list. [pairs within a corpus]", show_default=False)
    ] = None,
    enrollments: Annotated[
        Path | None,
        typer.Option(
            "--enrollments",
            "--enrolments",
            help="What the list's models are made of.",
            show_default=False,
        ),
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(help=f"Of {', '.join(impairments.IMPAIRMENTS)}. [all]", show_default=False),
    ] = None,
    output_folder: options.Output = options.DEFAULT_OUTPUT,
    cache_file: options.CacheFile = None,
    device: options.DeviceOption = "auto",
    max_trials: options.MaxTrials = 500_000,
    replicates: options.Replicates = 200,
    seed: options.Seed = 0,
) -> None:
    """Check the model's promised false-match rate in every condition, on one side and on both.

    Offset, hum, rumble, tones, silence, telephone lines and codecs. Writes promises.json, and
    renders the report again if there is one. The table says where the promise fails; the exit
    status is 0 all the same.
    """
    with exit_on_errors():
        request = make_request(
            model, manifest, split, cache_file, device, replicates, seed, max_trials
        )
        request = replace(request, listed=trials, enrollments=enrollments)
        document = asyncio.run(
            promises.measure(request, condition or tuple(impairments.IMPAIRMENTS))
        )
        files.write_extra(output_folder, promises.NAME, document)
        Console().print(_promise_table(document))


def _promise_table(document: Document) -> Table:
    title = f"{document['system']} promises {document['promised']:.2%} false matches"
    table = draw_table(title)
    for column in ("condition", "on", "impostors accepted %", "enrolled rejected %", "SNR dB", ""):
        table.add_column(column)
    for row in document["rows"]:
        where = "" if row.condition == CLEAN else "both sides" if row.both_sides else "test side"
        rates = [_rate(rate) for rate in (row.accepted, row.rejected)]
        verdict = "holds" if row.holds else "fails"
        table.add_row(row.condition, where, *rates, f"{row.snr_db:.0f}", verdict)
    return table


def _rate(rate: Rate) -> str:
    value, held = f"{100 * rate.value:.2f}", rate.interval
    return value if held is None else f"{value} ({100 * held.low:.2f} to {100 * held.high:.2f})"
