"""`sayso-train compare`: runs beside each other."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.terminal import print_table, say

if TYPE_CHECKING:
    from training.runs.comparison import Run

HEADINGS = (
    "run", "encoder", "parameters", "losses", "framework", "steps", "clips/s",
    "EER recorded", "EER across", "data", "trials", "seed",
)  # fmt: skip
UNKNOWN = "-"


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print a table of runs: what was trained, how fast, and the best EERs of held-out speakers.

    Example: sayso-train compare runs/first runs/second
    """
    from training.runs import comparison

    summaries = [comparison.read(folder) for folder in runs]
    if as_json:
        sys.stdout.write(json.dumps([asdict(run) for run in summaries], indent=1) + "\n")
    else:
        print_table(HEADINGS, map(_row, summaries))
    if len({run.trials for run in summaries}) > 1:
        say(
            "held-out trials or their channels differ between these runs, by data, sampling, "
            "augmentation or seed: compare EERs with `sayso-evaluate`, on the same trials"
        )


def _row(run: Run) -> list[str]:
    return [
        run.folder,
        run.encoder,
        f"{run.parameters / 1e6:.2f} M",
        run.losses,
        run.framework,
        f"{run.steps} of {run.planned_steps}",
        UNKNOWN if run.clips_per_s is None else f"{run.clips_per_s:.0f}",
        UNKNOWN if run.eer_recorded is None else f"{run.eer_recorded:.2%}",
        UNKNOWN if run.eer_crossed is None else f"{run.eer_crossed:.2%}",
        run.data_digest[:12],
        run.trials,
        str(run.seed),
    ]
