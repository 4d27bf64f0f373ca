"""Other sounds beside the voice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.augment.waveform import SILENCE, Rng, Waveform, measure_rms, wrap
from training.data.library import Pcm


def add_noise(speech: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Add noise scaled to `snr_db` below the speech; silent noise adds nothing."""
    gain = measure_rms(speech) / max(measure_rms(noise), SILENCE) * 10 ** (-snr_db / 20)
    return np.asarray(speech + noise * gain, np.float32)


def mix_babble(voices: Sequence[Pcm], count: int, samples: int, rng: Rng) -> Waveform:
    """Add up `count` drawn voices of equal level."""
    total = np.zeros(samples, np.float32)
    for _ in range(count):
        voice = cut(voices, samples, rng)
        total += voice / np.float32(max(measure_rms(voice), SILENCE))
    return total


def cut(recordings: Sequence[Pcm], samples: int, rng: Rng) -> Waveform:
    """Draw a recording and a crop of it."""
    return wrap(recordings[int(rng.integers(len(recordings)))], samples, rng.random())
