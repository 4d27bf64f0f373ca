"""Learning curves as a picture in the run folder, while the run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from training.runs import pictures
from training.runs.history import CROSSED, RECORDED, Scalars
from training.runs.validation import Errors

PICTURE = "curves.png"


class Curves:
    """A reporter that draws curves.png anew at every validation.

    `scalars` are those from before the run was resumed, which are drawn as well.
    """

    def __init__(self, folder: Path, scalars: Scalars) -> None:
        self._folder = folder
        self._scalars = scalars

    def on_start(self, step: int, material: str) -> None:
        pass

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._scalars.setdefault(name, {})[step] = value

    def on_validation(self, step: int, errors: Errors, *, best: bool) -> None:
        self.on_step(step, {RECORDED: errors.recorded, CROSSED: errors.crossed})
        pictures.draw_curves(self._scalars).savefig(self._folder / PICTURE, dpi=100)

    def on_warning(self, step: int, warning: str) -> None:
        pass
