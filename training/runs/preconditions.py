"""What can be known to fail before any audio is decoded."""

from __future__ import annotations

import tempfile
from pathlib import Path

from training.config import Recipe
from training.data.teacher import Targets
from training.errors import CheckpointError, ConfigError
from training.learner import require_fit
from training.runs.checkpoint import Checkpoint


def require(
    recipe: Recipe, output: Path, start_from: Checkpoint | Path | None, targets: Targets | None
) -> None:
    """Raise the error that the run would end in, before it begins."""
    if targets is None and needs_targets(recipe):
        raise ConfigError("distillation needs the targets of `sayso-train teach`: --targets")
    if start_from is not None:
        require_fit(recipe, start_from)
    require_writable(output)


def needs_targets(recipe: Recipe) -> bool:
    return recipe.distils or recipe.sampling.least_agreement is not None


def require_writable(folder: Path) -> None:
    """Raise CheckpointError if no file can be written into the folder or its nearest parent."""
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"a run")
            file.flush()
    except OSError as error:
        raise CheckpointError(f"cannot write into the folder {folder}: {error}") from error
