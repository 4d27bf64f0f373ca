"""A light convolutional network with max-feature-map over linear-frequency log spectra.

Wu, He, Sun and Tan 2018, "A light CNN for deep face representation with noisy labels"; for spoofed
speech Lavrentyeva et al. 2017 and 2019 (STC at ASVspoof). The front end is in the graph, and the
frequency axis is linear because what vocoders leave out lies where mel bands are wide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.countermeasure.recipe import Network
from training.encoders.pooling import Statistics
from training.frontends.log_mel import FFT_SAMPLES, fourier_bases

HOP_S = 0.016
LEVEL_FLOOR, POWER_FLOOR = 1e-5, 1e-4


class LinearSpectrum(nn.Module):
    """Log power of every bin, (batch, samples) -> (batch, bins / bands, bands, frames).

    Neighboring bins are channels of one band: harmonics, which vocoders blur, stay apart at the
    cost of a coarser picture. The waveform is divided by its RMS, so that level says nothing, and
    each bin's mean over time is removed, so that a steady filter says little.
    """

    bases: Tensor

    def __init__(self, bands: int, sample_rate_hz: int) -> None:
        super().__init__()
        self.bands, self.channels = bands, FFT_SAMPLES // 2 // bands
        self.hop_samples = round(HOP_S * sample_rate_hz)
        bases = fourier_bases(FFT_SAMPLES)[:, None, :]
        self.register_buffer("bases", torch.from_numpy(bases).float(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        level = waveform.square().mean(dim=1, keepdim=True).sqrt()
        normal = (waveform / (level + LEVEL_FLOOR)).unsqueeze(1)  # (batch, 1, samples)
        spectrum = functional.conv1d(normal, self.bases, stride=self.hop_samples)
        cosine, sine = spectrum.chunk(2, dim=1)  # each (batch, 257, frames)
        power = cosine.square() + sine.square()
        logs = (power[:, 1:] + POWER_FLOOR).log()
        logs = logs - logs.mean(dim=2, keepdim=True)
        return logs.view(logs.shape[0], self.bands, self.channels, -1).transpose(1, 2)


class MaxFeatureMap(nn.Module):
    """The larger of each pair of channels, (batch, 2 * channels, ...) -> (batch, channels, ...)."""

    def forward(self, hidden: Tensor) -> Tensor:
        first, second = hidden.chunk(2, dim=1)
        return torch.maximum(first, second)


def convolve(channels_in: int, channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution, max-feature-map, batch norm."""
    convolution = nn.Conv2d(channels_in, 2 * channels, kernel, stride, padding=kernel // 2)
    return [convolution, MaxFeatureMap(), nn.BatchNorm2d(channels)]


class LightCnn(nn.Module):
    """(batch, samples) float32 at full scale 1 -> (batch,), the logit of bona fide speech.

    Bona fide and spoofed are equally likely in training, so the logit is a log-likelihood ratio of
    the training's kinds of attack, to be calibrated on others.
    """

    def __init__(self, settings: Network, sample_rate_hz: int) -> None:
        super().__init__()
        width = settings.width
        self.spectrum = LinearSpectrum(settings.bands, sample_rate_hz)
        self.layers = nn.Sequential(
            *convolve(
                self.spectrum.channels, width, 5, stride=2
            ),  # in place of a pool: half of the cost of a step
            *convolve(width, width, 1),
            nn.MaxPool2d(2),
            *convolve(width, width * 3 // 2, 3),
            *convolve(width * 3 // 2, width * 3 // 2, 1),
            *convolve(width * 3 // 2, width * 2, 3),
            nn.MaxPool2d(2),
            *convolve(width * 2, width * 2, 1),
            *convolve(width * 2, width, 3),
            *convolve(width, width, 1),
            *convolve(width, width, 3),
            nn.MaxPool2d((2, 1)),
        )
        self.pooling = Statistics()
        self.embedding = nn.Linear(2 * width * (settings.bands // 16), 2 * settings.embedding_dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.feature = MaxFeatureMap()
        self.logit = nn.Linear(settings.embedding_dim, 1)

    def forward(self, waveform: Tensor) -> Tensor:
        spectrum = self.spectrum(waveform)  # (batch, bins / bands, bands, frames)
        hidden = self.layers(spectrum)  # (batch, width, bands / 16, frames / 8)
        pooled = self.pooling(hidden.flatten(1, 2))
        embedding = self.feature(self.embedding(self.dropout(pooled)))
        logit: Tensor = self.logit(embedding).squeeze(1)
        return logit
