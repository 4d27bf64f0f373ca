"""The frequency response of a microphone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft

from training.augment.waveform import Rng, Waveform


def equalize(
    speech: Waveform,
    centers_hz: npt.NDArray[np.float64],
    gains_db: npt.NDArray[np.float64],
    sample_rate_hz: int,
) -> Waveform:
    """A zero-phase filter whose gain in dB is linear in log-frequency between the centers."""
    spectrum = fft.rfft(speech)
    bins_hz = np.linspace(0.0, sample_rate_hz / 2, spectrum.size)
    curve_db = np.interp(np.log(np.maximum(bins_hz, 1.0)), np.log(centers_hz), gains_db)
    return np.asarray(fft.irfft(spectrum * 10 ** (curve_db / 20), speech.size), np.float32)


def draw_handset(
    rng: Rng, deviation_db: float, sample_rate_hz: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw a microphone: a random walk of six steps above 100 Hz, as centers and gains."""
    centers_hz = np.geomspace(100.0, sample_rate_hz / 2, 7)
    gains_db = np.cumsum(rng.normal(0.0, deviation_db, centers_hz.size))
    return centers_hz, gains_db - gains_db.mean()
