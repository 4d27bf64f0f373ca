"""The telephone band at 8 kHz, and the companding of G.711."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import fft

from training.augment.waveform import Waveform

TELEPHONE_HZ = 8000
MU = 255.0
A = 87.6


def mu_law(speech: Waveform) -> Waveform:
    """Quantize to 8 bits of the continuous mu-law that ITU-T G.711 approximates by segments."""
    squeezed = np.sign(speech) * np.log1p(MU * np.minimum(np.abs(speech), 1.0)) / np.log1p(MU)
    code = np.round(squeezed * 127.0) / 127.0
    restored = np.sign(code) * np.expm1(np.abs(code) * np.log1p(MU)) / MU
    return np.asarray(restored, np.float32)


def a_law(speech: Waveform) -> Waveform:
    """Quantize to 8 bits of the continuous A-law that ITU-T G.711 approximates by segments."""
    size, slope = np.minimum(np.abs(speech), 1.0), 1.0 + np.log(A)
    linear = size < 1 / A
    squeezed = np.where(linear, A * size, 1.0 + np.log(np.maximum(A * size, 1.0))) / slope
    code = (np.floor(squeezed * 128.0).clip(max=127.0) + 0.5) / 128.0
    restored = np.where(code < 1 / slope, code * slope / A, np.exp(code * slope - 1.0) / A)
    return np.asarray(np.where(speech < 0, -restored, restored), np.float32)


def send_by_telephone(
    speech: Waveform,
    sample_rate_hz: int,
    *,
    low_hz: float,
    high_hz: float,
    companding: Callable[[Waveform], Waveform],
    low_order: float = 4.0,
    high_order: float = 12.0,
) -> Waveform:
    """Limit the band, resample to 8 kHz, compand, and resample to the rate it came in.

    The band edges are those of Butterworth filters, 6 dB an octave for each order.
    """
    spectrum = fft.rfft(speech)
    bins_hz = np.linspace(0.0, sample_rate_hz / 2, spectrum.size)
    band = 1 / np.sqrt(
        (1 + (low_hz / np.maximum(bins_hz, 1.0)) ** (2 * low_order))
        * (1 + (bins_hz / high_hz) ** (2 * high_order))
    )
    narrow_samples = round(speech.size * TELEPHONE_HZ / sample_rate_hz)
    ratio = narrow_samples / speech.size
    narrow = fft.irfft((spectrum * band)[: narrow_samples // 2 + 1], narrow_samples) * ratio
    coded = fft.rfft(companding(narrow.astype(np.float32)))
    wide = np.zeros_like(spectrum)
    wide[: coded.size] = coded
    wide[coded.size - 1] = 0.0
    return np.asarray(fft.irfft(wide, speech.size) / ratio, np.float32)
