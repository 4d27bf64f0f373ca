from __future__ import annotations

import numpy as np
import pytest

from tests.support.waveforms import noise
from training.augment import measure_rms
from training.augment.levels import drift, set_level


def test_level_is_within_the_range() -> None:
    for seed in range(10):
        level_db = 20 * np.log10(
            measure_rms(set_level(noise(0), (-30.0, -20.0), np.random.default_rng(seed)))
        )
        assert -30.01 <= level_db <= -19.99


def test_drift_runs_through_its_gains() -> None:
    speech = np.full(8001, 0.1, np.float32)
    heard_db = 20 * np.log10(drift(speech, np.array([0.0, 6.0, -10.0])) / 0.1)
    assert heard_db[[0, 2000, 4000, 6000, 8000]] == pytest.approx([0, 3, 6, -2, -10], abs=1e-3)
    assert np.abs(drift(speech, np.array([40.0, 0.0]))).max() == 1.0
