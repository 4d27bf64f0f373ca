"""What a model measured, kept in its own contract: figures by corpus, and the report's digest."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from exporters import model_file
from exporters.errors import ExportError
from service.contract import Contract


def write(model: Path, report: Path, output: Path | None = None) -> Contract:
    """Put the summary of `report`, an `evaluation.json` of `sayso-evaluate`, into the contract.

    Raises `ExportError` when it is no such report, or of another model.
    """
    figures = summarize(report)

    def add_summary(contract: Contract) -> Contract:
        if figures["model_id"] != contract.model_id:
            raise ExportError(
                f"{report} is of {figures['model_id']}, and {model} holds {contract.model_id}"
            )
        return dataclasses.replace(contract, evaluation=figures)

    return model_file.rewrite_contract(model, add_summary, output=output)


def summarize(report: Path) -> dict[str, Any]:
    """Summarize the report's first system: EER as a share by group, trials and two digests."""
    try:
        system = json.loads(report.read_text(encoding="utf-8"))["systems"][0]
        groups = {
            name: {
                "eer": figures["eer"]["value"],
                "targets": figures["targets"],
                "nontargets": figures["nontargets"],
            }
            for name, figures in system["groups"].items()
        }
        return {
            "model_id": system["system"],
            "groups": groups,
            "data_digest": system["data_digest"],
            "report": model_file.digest(report),
        }
    except OSError as error:
        raise ExportError(f"cannot read {report}: {error.strerror or error}") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ExportError(f"{report} is no evaluation.json of sayso-evaluate: {error!r}") from error
