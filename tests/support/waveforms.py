"""Made waveforms, and what is in their spectrum, for tests of what changes audio."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RATE_HZ = 16000


def noise(seed: int, samples: int = 16000, gain: float = 0.05) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, gain, samples).astype(np.float32)


def tone(hz: float, seconds: float = 1.0, gain: float = 0.1) -> npt.NDArray[np.float32]:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (gain * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def recordings(seed: int) -> list[npt.NDArray[np.int16]]:
    return [(noise(seed + i, 12000) * 32767).astype(np.int16) for i in range(3)]


def power_db(waveform: npt.NDArray[np.float32], low_hz: float, high_hz: float) -> float:
    """Mean power of a band."""
    power = np.abs(np.fft.rfft(waveform.astype(np.float64))) ** 2
    bins_hz = np.linspace(0, RATE_HZ / 2, power.size)
    return float(10 * np.log10(power[(bins_hz >= low_hz) & (bins_hz < high_hz)].mean() + 1e-20))
