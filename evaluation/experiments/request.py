"""What an experiment is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing it loads ONNX Runtime, which `--help` does not need
    from service.inference.session import Device


@dataclass(frozen=True, slots=True)
class Request:
    """A model and its trials: clips of `manifest` and `split`, or the list `listed` under `audio`.

    `same` and `different` are columns of the manifest in which both sides must agree or differ.
    """

    model: Path
    manifest: Path | None
    split: str | None
    cache: Path | None
    listed: Path | None = None
    audio: Path | None = None
    device: Device = "auto"
    max_trials: int = 2_000_000
    across_corpora: bool = False
    baseline: bool = True
    replicates: int = 200
    seed: int = 0
    enrollments: Path | None = None
    same: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    cross_channel: bool = False
