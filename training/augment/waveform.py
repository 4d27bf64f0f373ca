"""Waveforms at full scale 1: their level, and crops of recordings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.data.library import Pcm

Waveform = npt.NDArray[np.float32]
Rng = np.random.Generator

SILENCE = 1e-8
FULL_SCALE = 32768.0


def measure_rms(waveform: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def wrap(audio: Pcm | Waveform, samples: int, position: float) -> Waveform:
    """Cut a crop at full scale 1; shorter audio is repeated, as the server does, not zero-padded.

    `position` from 0 to 1 places it between the audio's start and its end.
    """
    start = round(position * max(0, audio.size - samples))
    full_scale = FULL_SCALE if audio.dtype == np.int16 else 1.0
    return np.resize(audio[start : start + samples] / np.float32(full_scale), samples)


def fit_length(speech: Waveform, signal: npt.NDArray[np.floating]) -> Waveform:
    """Cut `signal`, or pad it with silence, to the length of `speech`."""
    missing = max(speech.size - signal.size, 0)
    return np.pad(signal[: speech.size], (0, missing)).astype(np.float32)
