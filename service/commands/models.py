"""`sayso models`: model files on this machine."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from service.commands.terminal import err, one_line_errors, out
from service.errors import ModelError
from service.inference import catalog
from service.settings import Settings

app = typer.Typer(help="List, show and verify model files.", no_args_is_help=True)

ModelFile = Annotated[Path, typer.Argument(help="Contract model file (.onnx).")]
ModelFolder = Annotated[
    Path | None, typer.Argument(help="A folder of model files. [that of SAYSO_MODEL]")
]


@app.command("list")
def list_models(folder: ModelFolder = None) -> None:
    """Lists the model files of a folder: contract, digest, size, and speed on this machine.

    Speed is seconds of audio embedded in one second, one window at a time.
    """
    table = Table("file", "model id", "rate", "window", "size", "speed", "digest")
    broken = False
    with one_line_errors():
        paths = catalog.installed(folder or Settings.read().model.parent)
    for path in track(paths, "loading", console=err, transient=True):
        try:
            found = catalog.inspect(path)
        except ModelError as error:
            broken = True
            table.add_row(path.name, f"[red]{escape(str(error))}[/red]")
            continue
        contract = found.contract
        table.add_row(
            path.name,
            contract.model_id,
            f"{contract.sample_rate} Hz",
            f"{contract.window_s:g} s",
            f"{found.size_bytes / 1e6:.1f} MB",
            f"{found.speed:.0f} x",
            f"{found.sha256[:12]}{'' if found.signed else ' (unsigned)'}",
        )
    out.print(table)
    if broken:
        raise typer.Exit(1)


@app.command("show")
def show_model(model: ModelFile) -> None:
    """Prints a model's whole contract as JSON."""
    with one_line_errors():
        contract = catalog.inspect(model).contract
    out.print_json(next(iter(contract.to_metadata().values())))


@app.command("verify")
def verify_model(model: ModelFile) -> None:
    """Loads a model as the server would; exit status 0 when it is calibrated, and has a digest
    beside it, which holds."""
    with one_line_errors():
        found = catalog.inspect(model)
    if found.contract.calibration is None:
        err.print(
            f"{model.name} loads, but has no calibration: no call could be verified; make one by "
            "`sayso-export calibrate`"
        )
        raise typer.Exit(1)
    if not found.signed:
        err.print(f"{model.name} loads, but there is no {model.name}.sha256 to check it against")
        raise typer.Exit(1)
    out.print(f"{model.name}: {found.contract.model_id}, sha256 {found.sha256}", highlight=False)
