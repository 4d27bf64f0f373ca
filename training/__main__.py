"""`sayso-train`: from a corpus to a checkpoint."""

from __future__ import annotations

import os

import typer

from training.commands.compare import compare
from training.commands.data import inspect, manifest, pack
from training.commands.describe import describe
from training.commands.hear import hear
from training.commands.picture import picture
from training.commands.probe import probe
from training.commands.run import run
from training.commands.teach import teach
from training.ranks import end_at_once

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
for command in (manifest, inspect, pack, hear, compare, picture, probe, run, teach, describe):
    app.command()(command)

if __name__ == "__main__":
    with end_at_once(os.environ):
        app()
