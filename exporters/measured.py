"""Keep the contract that was measured for a published model, for every service that gets it.

    sayso models get campplus && make calibration MODEL=campplus.onnx
    python -m exporters.measured campplus campplus.onnx

writes the contract of the calibrated file into models/campplus.json.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from exporters import model_file
from exporters.errors import ExportError
from service.adoption.catalog import FOLDER, Published
from service.contract import METADATA_KEY, Contract


def record(name: str, model: Path, folder: Path = FOLDER) -> Contract:
    """Put the contract of `model` into the catalog's entry `name`; raises `ExportError` if the
    model has other weights or no calibration."""
    published = Published.read(name, folder)
    _, contract = model_file.read(model)
    if contract.provenance.get("checkpoint") != published.checkpoint:
        raise ExportError(f"{model} is not made from the checkpoint of {name}")
    if contract.calibration is None:
        raise ExportError(f"{model} has no calibration: make calibration MODEL={model}")
    write(dataclasses.replace(published, contract=contract), folder)
    return contract


def write(published: Published, folder: Path = FOLDER) -> None:
    """Write the catalog's entry of a model."""
    document = {
        "title": published.title,
        "licence": published.licence,
        "source": published.source,
        "package": dataclasses.asdict(published.package),
        "checkpoint": published.checkpoint,
        "contract": json.loads(published.contract.to_metadata()[METADATA_KEY]),
    }
    data = json.dumps(document, indent=1).encode() + b"\n"
    model_file.write_atomically(folder / f"{published.name}.json", data)


if __name__ == "__main__":
    record(sys.argv[1], Path(sys.argv[2]))
