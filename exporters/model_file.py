"""The model file on disk: graph and contract together, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from exporters.errors import ExportError, GraphError
from exporters.graph import fingerprint, require_valid
from service.contract import Contract, ModelContract
from service.inference.session import get_digest_path

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ID_DIGITS = 12


def make_model_id(name: str, model: onnx.ModelProto) -> str:
    """Make `name-0123456789ab`: a name for people, and digits from the weights and the graph."""
    if not _NAME.fullmatch(name):
        raise ExportError(
            f"{name!r} cannot name a model: up to 64 of a-z, 0-9, '.', '_' and '-', "
            "starting with a letter or digit"
        )
    return f"{name}-{fingerprint(model)[:_ID_DIGITS]}"


def write(path: Path, model: onnx.ModelProto, contract: ModelContract) -> None:
    """Write `model` with `contract` in its metadata, replacing `path` in one step, and then its
    digest beside it."""
    document = contract.to_metadata()
    metadata = {entry.key: entry.value for entry in model.metadata_props} | document
    signed = onnx.ModelProto()
    signed.CopyFrom(model)
    onnx.helper.set_model_props(signed, metadata)
    data = require_valid(signed).SerializeToString(deterministic=True)
    beside = get_digest_path(path)
    beside.unlink(missing_ok=True)  # a model with no digest loads, one with an older digest not
    write_atomically(path, data)
    write_atomically(beside, f"{hashlib.sha256(data).hexdigest()}  {path.name}\n".encode())


def require_writable(path: Path) -> None:
    """Raise ExportError, before long work, if no file can be written beside `path`."""
    try:
        existing = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"a model")
            file.flush()
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write so that the file is the old or the new one, never a part, and on disk on return."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(0o644)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        _sync_folder(path.parent)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_graph(path: Path) -> onnx.ModelProto:
    """Read any ONNX file with its weights; raises `GraphError` if it is incomplete."""
    try:
        return require_valid(onnx.load_model(path))
    except DecodeError as error:
        raise GraphError(f"{path} is not an ONNX file") from error
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise GraphError(f"cannot read {path}: {error}") from error


def read(path: Path) -> tuple[onnx.ModelProto, Contract]:
    """Read a model file and its contract; raises `GraphError` or `ContractError`."""
    model = read_graph(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return model, Contract.from_metadata(metadata)


def rewrite_contract(
    path: Path, change: Callable[[Contract], Contract], *, output: Path | None = None
) -> Contract:
    """Put `change(contract)` into the file (or a copy at `output`); graph and weights stay.

    The model id stays too, so `change` must not alter what an embedding is.
    """
    model, contract = read(path)
    changed = change(contract)
    if changed.model_id != contract.model_id:
        raise ExportError("a contract cannot be rewritten to another model id")
    write(output or path, model, changed)
    return changed


def digest(path: Path) -> str:
    """Hash the whole file, contract included: `sha256:` and the hex digest."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror or error}") from error
