"""`sayso models`: model files on this machine."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from service.commands.terminal import err, one_line_errors, out
from service.contract import Contract
from service.errors import ModelError
from service.inference.session import Session, get_digest_path
from service.settings import Settings

_TIMED_RUNS = 5

app = typer.Typer(help="List, show and verify model files.", no_args_is_help=True)

ModelFile = Annotated[Path, typer.Argument(help="Contract model file (.onnx).")]
ModelFolder = Annotated[
    Path | None, typer.Argument(help="A folder of model files. [that of SAYSO_MODEL]")
]


@dataclass(frozen=True, slots=True)
class InspectedModel:
    """A model file that loads; `signed` if there is a digest beside it, which then matches. `speed`
    is seconds of audio embedded in one second, one window at a time."""

    contract: Contract
    sha256: str
    size_bytes: int
    signed: bool
    speed: float


@app.command("list")
def list_models(folder: ModelFolder = None) -> None:
    """Lists the model files of a folder: contract, digest, size, and speed on this machine.

    Speed is seconds of audio embedded in one second, one window at a time.
    """
    table = Table("file", "model id", "rate", "window", "size", "speed", "digest")
    broken = False
    with one_line_errors():
        paths = _list_files(folder or Settings.read().model.parent)
    for path in track(paths, "loading", console=err, transient=True):
        try:
            model = _inspect(path)
        except ModelError as error:
            broken = True
            table.add_row(path.name, f"[red]{escape(str(error))}[/red]")
            continue
        contract = model.contract
        table.add_row(
            path.name,
            contract.model_id,
            f"{contract.sample_rate} Hz",
            f"{contract.window_s:g} s",
            f"{model.size_bytes / 1e6:.1f} MB",
            f"{model.speed:.0f} x",
            f"{model.sha256[:12]}{'' if model.signed else ' (unsigned)'}",
        )
    out.print(table)
    if broken:
        raise typer.Exit(1)


@app.command("show")
def show_model(model: ModelFile) -> None:
    """Prints a model's whole contract as JSON."""
    with one_line_errors():
        contract = _inspect(model).contract
    out.print_json(next(iter(contract.to_metadata().values())))


@app.command("verify")
def verify_model(model: ModelFile) -> None:
    """Loads a model as the server would; exit status 0 if it is calibrated and a digest beside it
    matches."""
    with one_line_errors():
        inspected = _inspect(model)
    if inspected.contract.calibration is None:
        err.print(
            f"{model.name} loads, but has no calibration: no call could be verified; make one by "
            "`sayso-export calibrate`"
        )
        raise typer.Exit(1)
    if not inspected.signed:
        err.print(f"{model.name} loads, but there is no {model.name}.sha256 to check it against")
        raise typer.Exit(1)
    out.print(
        f"{model.name}: {inspected.contract.model_id}, sha256 {inspected.sha256}", highlight=False
    )


def _list_files(folder: Path) -> list[Path]:
    """List the model files of a folder, by name; raises `ModelError` if it is no folder."""
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder}; correct SAYSO_MODEL or name another")
    return sorted(folder.glob("*.onnx"))


def _inspect(path: Path) -> InspectedModel:
    """Load, check and time a model; raises `ModelError` as the server would at start."""
    session = Session.open(path, device="auto")
    data = path.read_bytes()
    return InspectedModel(
        contract=session.contract,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        signed=get_digest_path(path).exists(),
        speed=_measure_speed(session),
    )


def _measure_speed(session: Session) -> float:
    contract = session.contract
    window = np.random.default_rng(0).normal(0, 0.1, (1, contract.window_samples))
    durations_s = []
    for _ in range(_TIMED_RUNS):
        began_s = time.perf_counter()
        session.run(window.astype(np.float32))
        durations_s.append(time.perf_counter() - began_s)
    return contract.window_s / float(np.median(durations_s))
