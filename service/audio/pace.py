"""Pace: detect speech whose declared sample rate is half or twice the true one.

    speech -> mel bands below 3400 Hz -> correlations, of bands and in time -> two weighted sums

At half or twice its rate a voice has formants at half or twice their frequency and changes half or
twice as fast. Neither depends on what a line or a microphone does to all of the audio alike. The
weights are fitted by `exporters/pace.py`; what they find is in docs/integrate/audio.md.
"""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.audio.quality import SAMPLE_RATE

Floats = NDArray[np.float32]

SPEECH_SAMPLES = 40_960  # 2.56 s
WEIGHTS = Path(__file__).with_name("pace.npz")
SLOW, FAST = "slow", "fast"

_FRAME, _HOP, _DFT = 400, 160, 512
_BANDS, _LOWEST_HZ, _HIGHEST_HZ = 29, 80.0, 3_386.4
_FLOOR = 1e-3  # of a band's mean power: 30 dB down
_CEPSTRA = 13
_LAGS = (1, 2, 4, 8, 16)  # of 10 ms
_VERDICTS = {
    SLOW: "its speech is too slow and low; the sample rate is higher than declared",
    FAST: "its speech is too quick and high; the sample rate is lower than declared",
}


def judge_rate(speech: Floats) -> str:
    """Say what is wrong with the sample rate of `speech (n,)` at 16 kHz, by its first 2.56 s; empty
    if nothing is, or if the speech is shorter."""
    if speech.size < SPEECH_SAMPLES:
        return ""
    features = compute_features(speech)
    for name, weights in _load_weights().items():
        if features @ weights[1:] > weights[0]:
            return _VERDICTS[name]
    return ""


def compute_features(speech: Floats) -> Floats:
    """Compute features `(471,)` of the first 2.56 s of `speech`: the correlations between each two
    of 29 bands' logarithms, and of each of 13 cepstra with itself 10 to 160 ms later."""
    speech = speech[:SPEECH_SAMPLES]
    frames = np.lib.stride_tricks.sliding_window_view(speech - speech.mean(), _FRAME)[::_HOP]
    spectrum = np.fft.rfft(frames * np.hamming(_FRAME).astype(np.float32), _DFT)
    bands = (spectrum.real**2 + spectrum.imag**2) @ _make_filters()
    bands = np.log(bands / (bands.mean(axis=0) + np.float32(1e-12)) + np.float32(_FLOOR))
    bands -= bands.mean(axis=0)
    scaled = bands / (bands.std(axis=0) + np.float32(1e-6))
    together = scaled.T @ scaled / len(scaled)
    cepstra = bands @ _make_cosines()
    power = np.square(cepstra).sum(axis=0) + np.float32(1e-9)
    lasting = [(cepstra[lag:] * cepstra[:-lag]).sum(axis=0) / power for lag in _LAGS]
    features: Floats = np.concatenate([together[np.triu_indices(_BANDS, 1)], *lasting])
    return features


@cache
def _make_filters() -> Floats:
    """Make triangular filters `(257, 29)`, equally spaced on the mel scale."""
    lowest, highest = 2_595 * np.log10(1 + np.array([_LOWEST_HZ, _HIGHEST_HZ]) / 700)
    edges = 700 * (10 ** (np.linspace(lowest, highest, _BANDS + 2) / 2_595) - 1)
    hertz = np.arange(_DFT // 2 + 1)[:, np.newaxis] * SAMPLE_RATE / _DFT
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    return np.maximum(np.minimum(rising, falling), 0).astype(np.float32)


@cache
def _make_cosines() -> Floats:
    """Make the first 13 functions `(29, 13)` of an orthonormal discrete cosine transform."""
    turns = np.outer(np.arange(_BANDS) + 0.5, np.arange(_CEPSTRA)) * np.pi / _BANDS
    waves = np.cos(turns) * np.sqrt(2 / _BANDS)
    waves[:, 0] /= np.sqrt(2)
    cosines: Floats = waves.astype(np.float32)
    return cosines


@cache
def _load_weights() -> dict[str, Floats]:
    """Load the threshold and the weights `(1 + 471,)` of each verdict."""
    with np.load(WEIGHTS) as stored:
        return {name: stored[name] for name in _VERDICTS}
