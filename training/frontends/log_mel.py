"""Waveform to log-mel in plain ops, so that the exported graph holds what training used."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOW_S = 0.025
HOP_S = 0.010
FFT_SAMPLES = 512
LEVEL_FLOOR = 1e-5
POWER_FLOOR = 1e-3


def mel_filters(
    sample_rate_hz: int, mels: int, low_hz: float, high_hz: float
) -> npt.NDArray[np.float64]:
    """Triangular filters of unit height on the HTK mel scale, (mels, bins)."""
    low_mel, high_mel = 2595.0 * np.log10(1.0 + np.array([low_hz, high_hz]) / 700.0)
    edges_hz = 700.0 * (10.0 ** (np.linspace(low_mel, high_mel, mels + 2) / 2595.0) - 1.0)
    bins_hz = np.linspace(0.0, sample_rate_hz / 2, FFT_SAMPLES // 2 + 1)
    left, centre, right = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising = (bins_hz - left) / (centre - left)
    falling = (right - bins_hz) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling))


def fourier_bases(window_samples: int) -> npt.NDArray[np.float64]:
    """Hann-windowed cosines, then sines, of a 512-point DFT: (2 * bins, window_samples)."""
    time = np.arange(window_samples)
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * time / window_samples)
    angle = 2.0 * np.pi * np.outer(np.arange(FFT_SAMPLES // 2 + 1), time) / FFT_SAMPLES
    return np.concatenate([np.cos(angle), np.sin(angle)]) * hann


class LogMel(nn.Module):
    """Log-mel of a level-normalized waveform, its mean over time removed.

    (batch, samples) float32 -> (batch, mels, frames); frame t covers the 25 ms that start at
    t * 10 ms, as in `torch.stft(center=False)` with a window of 25 ms and no padding, so there are
    1 + (samples - window) // hop frames. Dividing by the utterance's RMS before the log makes the
    floor relative to its level, so the features do not depend on gain. Always float32.
    """

    bases: Tensor
    filters: Tensor

    def __init__(
        self,
        *,
        sample_rate_hz: int = 16000,
        mels: int = 80,
        low_hz: float = 20.0,
        high_hz: float = 7600.0,
    ) -> None:
        super().__init__()
        self.mels = mels
        self.window_samples = round(WINDOW_S * sample_rate_hz)
        self.hop_samples = round(HOP_S * sample_rate_hz)
        bases = fourier_bases(self.window_samples)[:, None, :]
        filters = mel_filters(sample_rate_hz, mels, low_hz, high_hz)
        self.register_buffer("bases", torch.from_numpy(bases).float(), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        log_mel = self.without_mean_removal(waveform)
        return log_mel - log_mel.mean(dim=2, keepdim=True)

    def without_mean_removal(self, waveform: Tensor) -> Tensor:
        """The features before their mean over time is removed."""
        with torch.autocast(waveform.device.type, enabled=False):
            level = waveform.square().mean(dim=1, keepdim=True).sqrt()
            signal = (waveform / (level + LEVEL_FLOOR)).unsqueeze(1)  # (batch, 1, samples)
            spectrum = functional.conv1d(signal, self.bases, stride=self.hop_samples)
            cosine, sine = spectrum.chunk(2, dim=1)  # each (batch, bins, frames)
            power = cosine.square() + sine.square()
            return (self.filters @ power + POWER_FLOOR).log()  # (batch, mels, frames)
