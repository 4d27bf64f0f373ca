"""`sayso-train`: from a corpus to a checkpoint."""

from __future__ import annotations

import os

import typer

from training.commands.average import average
from training.commands.compare import compare
from training.commands.countermeasure import countermeasure
from training.commands.data import inspect, manifest, pack
from training.commands.describe import describe
from training.commands.hear import hear
from training.commands.picture import picture
from training.commands.probe import probe
from training.commands.run import run
from training.commands.spoofs import spoofs
from training.commands.teach import teach
from training.commands.terminal import Version, add_command, end_at_once, one_line_errors

app = typer.Typer(name="sayso-train", no_args_is_help=True, pretty_exceptions_enable=False)
for command in (
    *(manifest, inspect, pack, run, teach, average),
    *(spoofs, countermeasure),
    *(hear, compare, picture, probe, describe),
):
    add_command(app, one_line_errors()(command), command.__name__)


@app.callback()
def introduce(version: Version = False) -> None:
    """Train a speaker embedding, from a corpus to a checkpoint.

    Example: sayso-train run first --manifest manifest.csv --output runs/first
    """


if __name__ == "__main__":
    with end_at_once(os.environ):
        app()
