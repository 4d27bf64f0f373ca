"""How the commands of `sayso-export` end."""

from __future__ import annotations

from pathlib import Path

from exporters.errors import ExportError


def choose_output(model: Path, output: Path | None, *, in_place: bool) -> Path:
    """Choose the file to write; ExportError unless exactly one of both options says which."""
    if in_place == (output is not None):
        raise ExportError("say where to write: --output FILE, or --in-place to change MODEL itself")
    return output or model
