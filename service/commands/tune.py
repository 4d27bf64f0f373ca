"""`sayso tune`: runs `sayso-evaluate tune`, which needs the extra `evaluation`.

In a process of its own: the service imports nothing of the evaluation.
"""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.commands.terminal import Json


def tune(
    model: Annotated[Path, typer.Argument(help="Model file (.onnx) with its contract.")],
    recordings: Annotated[
        Path,
        typer.Argument(
            help="Folder of recordings, or a CSV: path and, where known, speaker, session and"
            " labels such as line or codec."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the tuned model and the report.")] = Path(
        "tuned"
    ),
    as_json: Json = False,
) -> None:
    """Fits a model's scores and thresholds to your own calls; enrolled voices stay valid.

    Scores, calibration and thresholds are judged on speakers that they were not fitted on, and
    kept only if they are shown to help. `sayso-evaluate tune` has more options.

    Example: sayso tune models/sayso.onnx calls.csv
    """
    program = [sys.executable, "-P", "-m", "evaluation", "tune"]
    options = ["--output", str(output), *(["--json"] if as_json else [])]
    done = subprocess.run([*program, *options, "--", str(model), str(recordings)], check=False)  # noqa: S603 - no shell, our own program
    raise typer.Exit(done.returncode)
