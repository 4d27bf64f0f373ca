"""`sayso-export`: make the model file that the service loads."""

from __future__ import annotations

import typer

from evaluation.commands.terminal import Version, add_command, one_line_errors
from exporters.commands.backend import backend
from exporters.commands.calibrate import calibrate
from exporters.commands.candidates import adopt, checkpoint
from exporters.commands.countermeasure import countermeasure
from exporters.commands.quantize import quantize
from exporters.commands.record import record_evaluation
from exporters.commands.windows import windows

app = typer.Typer(name="sayso-export", no_args_is_help=True, pretty_exceptions_enable=False)
for name, command in (
    ("checkpoint", checkpoint),
    ("adopt", adopt),
    ("countermeasure", countermeasure),
    ("calibrate", calibrate),
    ("backend", backend),
    ("windows", windows),
    ("quantize", quantize),
    ("record", record_evaluation),
):
    add_command(app, one_line_errors("train")(command), name)


@app.callback()
def describe(version: Version = False) -> None:
    """Make the model file that the service loads.

    Example: sayso-export checkpoint runs/first/best.pt --output model.onnx
    """


if __name__ == "__main__":
    app()
