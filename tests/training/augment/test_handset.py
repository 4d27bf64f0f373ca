from __future__ import annotations

import numpy as np
import pytest

from tests.support.waveforms import RATE_HZ, noise, power_db
from training.augment.handset import equalize


def test_equaliser_follows_its_curve() -> None:
    shaped = equalize(noise(0), np.array([100.0, 8000.0]), np.array([0.0, -30.0]), RATE_HZ)
    for low_hz, high_hz in ((150, 200), (880, 920), (6000, 6100)):
        centre_hz = np.sqrt(low_hz * high_hz)
        expected = -30 * np.log(centre_hz / 100) / np.log(80)
        change_db = power_db(shaped, low_hz, high_hz) - power_db(noise(0), low_hz, high_hz)
        assert change_db == pytest.approx(expected, abs=0.5)
