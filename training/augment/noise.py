"""Other sounds beside the voice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.augment.waveform import SILENCE, Rng, Waveform, rms, wrap
from training.data.library import Pcm


def add_noise(speech: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Their sum, the noise scaled to lie `snr_db` below the speech; silent noise adds nothing."""
    gain = rms(speech) / max(rms(noise), SILENCE) * 10 ** (-snr_db / 20)
    return np.asarray(speech + noise * gain, np.float32)


def babble(voices: Sequence[Pcm], count: int, samples: int, rng: Rng) -> Waveform:
    """The sum of `count` drawn voices, equally loud."""
    total = np.zeros(samples, np.float32)
    for _ in range(count):
        voice = cut(voices, samples, rng)
        total += voice / np.float32(max(rms(voice), SILENCE))
    return total


def cut(recordings: Sequence[Pcm], samples: int, rng: Rng) -> Waveform:
    """A drawn crop of a drawn recording."""
    return wrap(recordings[int(rng.integers(len(recordings)))], samples, rng.random())
