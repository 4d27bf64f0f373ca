"""The front ends of other toolkits as one convolution and one matrix product.

A frame's windowing, mean removal, pre-emphasis and Fourier transform are all linear, so they are
multiplied out once, in double precision, into the kernel of a strided convolution. Its output
squared and summed is the power spectrum; the rest is a mel matrix and perhaps a logarithm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Doubles = NDArray[np.float64]


class MelPower(nn.Module):
    """(batch, samples) -> (batch, mels, frames) of power, frames starting `hop` samples apart.

    `frame` (width, taps) maps a frame's taps to the width that is Fourier transformed over
    `fft_samples` points; `mel` is (mels, bins).
    """

    kernel: Tensor
    mel: Tensor

    def __init__(self, frame: Doubles, mel: Doubles, *, fft_samples: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        angle = 2 * np.pi * np.outer(np.arange(mel.shape[1]), np.arange(len(frame))) / fft_samples
        kernel = np.concatenate([np.cos(angle), -np.sin(angle)]) @ frame
        self.register_buffer("kernel", _float32(kernel[:, None, :]), persistent=False)
        self.register_buffer("mel", _float32(mel), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = functional.conv1d(waveform.unsqueeze(1), self.kernel, stride=self.hop)
            real, imaginary = spectrum.chunk(2, dim=1)  # each (batch, bins, frames)
            return self.mel @ (real.square() + imaginary.square())


def _float32(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def hann(samples: int) -> Doubles:
    """The periodic Hann window."""
    window: Doubles = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)
    return window


def slaney_hz(mel: Doubles) -> Doubles:
    """Frequencies of Slaney's mel scale: linear to 1 kHz (15 mel), logarithmic above."""
    above = 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0))
    frequencies: Doubles = np.where(mel < 15.0, mel * 200.0 / 3.0, above)
    return frequencies


def slaney_filters(*, rate: int, fft_samples: int, mels: int) -> Doubles:
    """Triangles of equal area, in hertz, from 0 to half the rate: (mels, bins)."""
    highest = 15.0 + 27.0 * np.log(rate / 2 / 1000.0) / np.log(6.4)
    edges = slaney_hz(np.linspace(0.0, highest, mels + 2))
    bins = np.arange(fft_samples // 2 + 1) * rate / fft_samples
    return triangles(edges, bins) * (2.0 / (edges[2:] - edges[:-2]))[:, None]


def triangles(edges: Doubles, points: Doubles) -> Doubles:
    """Triangles of unit height, each over three neighboring edges: (edges - 2, points)."""
    left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (points - left) / (center - left), (right - points) / (right - center)
    return np.maximum(0.0, np.minimum(rising, falling))


class LibrosaMel(nn.Module):
    """`librosa.feature.melspectrogram` with its defaults but for the sizes: centered frames,
    zeros beyond the ends, periodic Hann, power, Slaney's scale and norm, no logarithm."""

    def __init__(self, *, rate: int, mels: int, window_samples: int, hop_samples: int) -> None:
        super().__init__()
        self.margin = window_samples // 2
        filters = slaney_filters(rate=rate, fft_samples=window_samples, mels=mels)
        frame = np.diag(hann(window_samples))
        self.power = MelPower(frame, filters, fft_samples=window_samples, hop=hop_samples)

    def forward(self, waveform: Tensor) -> Tensor:
        mel: Tensor = self.power(functional.pad(waveform, (self.margin, self.margin)))
        return mel


def hamming(samples: int) -> Doubles:
    """The symmetric Hamming window."""
    return np.hamming(samples)


def povey(samples: int) -> Doubles:
    """Kaldi's own window: a symmetric Hann to the power 0.85."""
    window: Doubles = np.hanning(samples) ** 0.85
    return window


def kaldi_frame(window: Doubles, *, preemphasis: float = 0.97) -> Doubles:
    """What Kaldi does to a frame: mean removed, pre-emphasized, windowed; (samples, samples)."""
    samples = len(window)
    centered = np.eye(samples) - 1 / samples
    earlier = np.eye(samples, k=-1)
    earlier[0, 0] = 1  # the first sample stands for the one before it
    emphasized: Doubles = centered - preemphasis * earlier @ centered
    return window[:, None] * emphasized


def kaldi_filters(*, rate: int, fft_samples: int, mels: int, low_hz: float = 20.0) -> Doubles:
    """Triangles on the mel scale itself, from `low_hz` to half the rate: (mels, bins)."""
    bins = np.arange(fft_samples // 2 + 1) * rate / fft_samples
    low, high = (1127.0 * np.log1p(hz / 700.0) for hz in (low_hz, rate / 2))
    filters = triangles(np.linspace(low, high, mels + 2), 1127.0 * np.log1p(bins / 700.0))
    filters[:, -1] = 0
    return filters


class KaldiFbank(nn.Module):
    """Kaldi's log-mel filterbank without dither, (batch, samples) -> (batch, mels, frames).

    `window` is `povey` or `hamming`; `scale` is 32768 where 16-bit sample values are expected;
    `centered` takes the mean over frames from each mel. Frames that do not fit are left out.
    """

    FLOOR = float(np.finfo(np.float32).eps)

    def __init__(
        self,
        *,
        rate: int = 16000,
        mels: int = 80,
        window: Callable[[int], Doubles] = povey,
        scale: float = 1.0,
        centered: bool = True,
    ) -> None:
        super().__init__()
        self.centered = centered
        length, hop = round(0.025 * rate), round(0.010 * rate)
        fft_samples = 1 << (length - 1).bit_length()
        self.power = MelPower(
            scale * kaldi_frame(window(length)),
            kaldi_filters(rate=rate, fft_samples=fft_samples, mels=mels),
            fft_samples=fft_samples,
            hop=hop,
        )

    def forward(self, waveform: Tensor) -> Tensor:
        power: Tensor = self.power(waveform)
        features = power.clamp(min=self.FLOOR).log()
        if self.centered:
            features = features - features.mean(dim=2, keepdim=True)
        return features


class NemoMel(nn.Module):
    """NeMo's log-mel, each mel at zero mean and unit deviation over time: -> (batch, mels, frames).

    Pre-emphasized as a whole, centered frames with zeros beyond the ends, a symmetric Hann window
    in the middle of the transform, power, Slaney's scale and norm.
    """

    FFT_SAMPLES, FLOOR, LEAST_DEVIATION = 512, 2.0**-24, 1e-5

    def __init__(self, *, rate: int = 16000, mels: int = 80) -> None:
        super().__init__()
        length, hop = round(0.025 * rate), round(0.010 * rate)
        before = (self.FFT_SAMPLES - length) // 2
        frame = np.diag(np.pad(np.hanning(length), (before, self.FFT_SAMPLES - length - before)))
        filters = slaney_filters(rate=rate, fft_samples=self.FFT_SAMPLES, mels=mels)
        self.power = MelPower(frame, filters, fft_samples=self.FFT_SAMPLES, hop=hop)

    def forward(self, waveform: Tensor) -> Tensor:
        later = waveform[:, 1:] - 0.97 * waveform[:, :-1]
        emphasized = torch.cat([waveform[:, :1], later], dim=1)
        margin = self.FFT_SAMPLES // 2
        features = (self.power(functional.pad(emphasized, (margin, margin))) + self.FLOOR).log()
        centered = features - features.mean(dim=2, keepdim=True)
        variance = centered.square().sum(dim=2, keepdim=True) / (features.shape[2] - 1)
        normalized: Tensor = centered / (variance.sqrt() + self.LEAST_DEVIATION)
        return normalized


class SpeechBrainFbank(nn.Module):
    """SpeechBrain's `Fbank` and its sentence normalization: -> (batch, mels, frames) in decibels.

    Centred frames with zeros beyond the ends, periodic Hamming; filters on the HTK mel scale, as
    wide above their center as below; floored 80 dB under the utterance's highest value.
    """

    LEAST_POWER, RANGE_DB = 1e-10, 80.0

    def __init__(self, *, rate: int = 16000, mels: int = 80) -> None:
        super().__init__()
        length, hop = round(0.025 * rate), round(0.010 * rate)
        self.margin = length // 2
        highest = 2595 * np.log10(1 + rate / 2 / 700)
        edges = 700 * (10 ** (np.linspace(0.0, highest, mels + 2) / 2595) - 1)
        centers, bands = edges[1:-1, None], np.diff(edges)[:-1, None]
        distance = np.abs(np.arange(length // 2 + 1) * rate / length - centers) / bands
        frame = np.diag(np.hamming(length + 1)[:-1])
        filters = np.maximum(0.0, 1.0 - distance)
        self.power = MelPower(frame, filters, fft_samples=length, hop=hop)

    def forward(self, waveform: Tensor) -> Tensor:
        power: Tensor = self.power(functional.pad(waveform, (self.margin, self.margin)))
        decibels = power.clamp(min=self.LEAST_POWER).log10() * 10
        floor = decibels.amax(dim=(1, 2), keepdim=True) - self.RANGE_DB
        features = torch.maximum(decibels, floor)
        return features - features.mean(dim=2, keepdim=True)
