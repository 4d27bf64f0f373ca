"""How loud the voice arrives, and how that changes while it speaks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.augment.waveform import SILENCE, Rng, Waveform, measure_rms
from training.config import Range


def set_level(speech: Waveform, dbfs_range: Range, rng: Rng) -> Waveform:
    """Scale to a drawn RMS level, clipped at full scale."""
    gain = 10 ** (rng.uniform(*dbfs_range) / 20) / max(measure_rms(speech), SILENCE)
    return np.asarray(np.clip(speech * gain, -1.0, 1.0), np.float32)


def drift(speech: Waveform, gains_db: npt.NDArray[np.float64]) -> Waveform:
    """Make speech louder and quieter, as a moving mouth does.

    The gain in dB is linear between points spread evenly over the speech; clipped at full scale.
    """
    points = np.linspace(0.0, speech.size - 1, gains_db.size)
    curve_db = np.interp(np.arange(speech.size), points, gains_db).astype(np.float32)
    return np.asarray(np.clip(speech * 10 ** (curve_db / np.float32(20)), -1.0, 1.0), np.float32)
