"""What is known of published models that an installed service can have.

`models/NAME.json` holds where a model comes from and the contract that this repository measured
for its checkpoint; `models/NAME.graph.gz` is its graph without weights. `models/figures.json` holds
what all models measured on the same trials.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from service.adoption.package import Package
from service.contract import METADATA_KEY, Contract
from service.errors import ContractError, ModelError

FOLDER = Path(__file__).resolve().parents[2] / "models"
NAMES = ("campplus",)
_ID_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Published:
    """A published model: `contract` was measured for the file with the digest `checkpoint`."""

    name: str
    title: str
    licence: str
    source: str
    package: Package
    checkpoint: str
    contract: Contract

    @classmethod
    def read(cls, name: str, folder: Path = FOLDER) -> Self:
        """Read what is known of a model; raises `ModelError` if there is none of that name."""
        if name not in NAMES:
            raise ModelError(f"no model {name!r} can be had; there is {', '.join(NAMES)}")
        document = _read_json(folder / f"{name}.json")
        contract = {METADATA_KEY: json.dumps(document["contract"])}
        return cls(
            name=name,
            package=Package(**document["package"]),
            contract=Contract.from_metadata(contract),
            **{key: document[key] for key in ("title", "licence", "source", "checkpoint")},
        )

    def make_contract(self, fingerprint: str, digest: str, source: str) -> Contract:
        """Make the contract of this model with the weights of the file of that digest.

        Weights that were not measured get the same windows, and no calibration.
        """
        model_id = f"{self.name}-{fingerprint[:_ID_DIGITS]}"
        if digest == self.checkpoint:
            provenance = {**self.contract.provenance, "checkpoint": digest}
            return dataclasses.replace(self.contract, model_id=model_id, provenance=provenance)
        return dataclasses.replace(
            self.contract,
            model_id=model_id,
            calibration=None,
            operating_point=None,
            cohort=None,
            evaluation={},
            provenance={"source": source, "checkpoint": digest, "graph": self.title},
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model measured: bytes of the file, milliseconds of one window on one core, and equal
    error rates as shares by the name of the condition."""

    name: str
    licence: str
    size_bytes: int
    window_ms: float
    eer: Mapping[str, float]


def read_measured(folder: Path = FOLDER) -> list[Measured]:
    """Read the figures of all models, the models that ship first."""
    document = _read_json(folder / "figures.json")
    return [
        Measured(
            name=each["name"],
            licence=each["licence"],
            size_bytes=each["size_bytes"],
            window_ms=each["window_ms"],
            eer={name: figure["eer"] for name, figure in each["eer"].items()},
        )
        for each in document["models"]
    ]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"cannot read {path}: {error.strerror or error}; install Sayso again"
        ) from error
    except ValueError as error:
        raise ContractError(f"{path} is damaged: {error}; install Sayso again") from error
    return document
