"""A trained encoder and the clips that it is shown, for the commands that look at one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.data import load_library
from training.data.library import Library

if TYPE_CHECKING:
    import torch

    from training.runs.checkpoint import Checkpoint

CheckpointFile = Annotated[Path, typer.Argument(help="best.pt of a run folder, say.")]
Clips = Annotated[Path, typer.Option(help="A manifest (CSV), or the folder of a pack.")]
Split = Annotated[str, typer.Option(help="Rows of the manifest to use.")]
Seed = Annotated[int, typer.Option(min=0, help="The same draws the same.")]


@dataclass(frozen=True, slots=True)
class TrainedEncoder:
    checkpoint: Checkpoint
    library: Library
    device: torch.device

    @classmethod
    def load(cls, path: Path, manifest: Path, split: str) -> TrainedEncoder:
        """Read both, to run on CUDA if there is one; raises CheckpointError or ManifestError."""
        import torch

        from training.runs import checkpoint

        state = checkpoint.load(path)
        library = load_library(manifest, split, state.recipe.front_end.sample_rate_hz)
        return cls(state, library, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
