from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from training.runs.curves import PICTURE, Curves
from training.runs.validation import Errors


def test_a_picture_at_every_validation_with_what_went_before(tmp_path: Path) -> None:
    drawn: list[np.ndarray] = []
    for told in ({}, {"loss/total": {20: 5.0, 40: 4.0}}):
        curves = Curves(tmp_path, told)
        curves.on_step(60, {"loss/total": 3.0, "learning_rate": 1e-3})
        curves.on_warning(60, "nothing to draw")
        assert (tmp_path / PICTURE).exists() == bool(drawn)
        for step in (60, 80):
            curves.on_validation(step, Errors(0.3, 0.4), best=True)
            drawn.append(imread(tmp_path / PICTURE))
    assert {picture.shape for picture in drawn} == {(800, 700, 4)}
    first, later, resumed, _ = drawn
    assert not np.array_equal(first, later)
    assert not np.array_equal(first, resumed)
