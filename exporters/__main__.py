"""`sayso-export`: make the model file that the service loads."""

from __future__ import annotations

import typer

from exporters.commands.backend import backend
from exporters.commands.calibrate import calibrate
from exporters.commands.candidates import adopt, checkpoint
from exporters.commands.quantize import quantize
from exporters.commands.record import record_evaluation
from exporters.commands.windows import windows

app = typer.Typer(
    name="sayso-export",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help=__doc__,
)
for command in (checkpoint, adopt, calibrate, backend, windows, quantize):
    app.command()(command)
app.command("quantise", hidden=True)(quantize)  # for scripts that know the older spelling
app.command("record")(record_evaluation)

if __name__ == "__main__":
    app()
