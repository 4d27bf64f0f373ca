"""Quality: how well speech was heard, measured on the raw signal in running sums."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000

Samples = NDArray[np.float32]

_CLIPPED = 0.975
_SNR_RANGE_DB = (-10.0, 60.0)
_PEAK_RANGE_DB = (-120.0, 0.0)
_LEVEL_RANGE_DB = (-100.0, 20.0)
_LEVEL_STEP_DB = 0.5
_ENOUGH_NOISE_FRAMES = 10
_SILENCE = 1e-20


@dataclass(frozen=True, slots=True)
class Quality:
    """What was heard, in seconds and decibels, measured on the signal as it came.

    `snr_db` (-10..60, None without speech) is the power of voiced frames, less the noise, over
    the noise: the median power of frames that are not speech or, when those are less than a third
    of a second, the 10th percentile of all (a minimum statistic, after Martin 2001). `clipping` is
    the share of speech samples at or beyond 0.975 of full scale, just below where mu-law ends.
    `peak_dbfs` is in -120..0.
    """

    net_speech_s: float
    total_s: float
    snr_db: float | None
    clipping: float
    peak_dbfs: float


class Loudness(NamedTuple):
    """Of one frame: mean square, its place in the histograms, and how many samples clip."""

    power: float
    level: int
    clipped: int


class Frame(NamedTuple):
    samples: Samples
    loudness: Loudness
    voiced: bool


def loudness(frames: Samples) -> list[Loudness]:
    """Of each of `frames (n, samples)`."""
    powers = np.square(frames, dtype=np.float64).sum(axis=1) / frames.shape[1]
    decibels = 10 * np.log10(np.maximum(powers, _SILENCE))
    low, high = _LEVEL_RANGE_DB
    levels = np.rint((np.clip(decibels, low, high) - low) / _LEVEL_STEP_DB).astype(int)
    clipped = np.count_nonzero(np.abs(frames) >= _CLIPPED, axis=1)
    return list(map(Loudness, powers.tolist(), levels.tolist(), clipped.tolist()))


class Meter:
    """Running sums and two histograms of frame levels: the same memory for any length."""

    def __init__(self) -> None:
        self._total_samples = self._speech_samples = self._clipped_samples = 0
        self._peak = 0.0
        self._voiced_power = 0.0
        self._voiced_frames = 0
        bins = round((_LEVEL_RANGE_DB[1] - _LEVEL_RANGE_DB[0]) / _LEVEL_STEP_DB) + 1
        self._noise_levels = np.zeros(bins, np.int64)
        self._speech_levels = np.zeros(bins, np.int64)

    def hear(self, samples: Samples) -> None:
        self._total_samples += samples.size
        self._peak = max(self._peak, float(np.abs(samples).max(initial=0.0)))

    def speech(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            self._speech_samples += frame.samples.size
            self._clipped_samples += frame.loudness.clipped
            self._speech_levels[frame.loudness.level] += 1
            if frame.voiced:
                self._voiced_power += frame.loudness.power
                self._voiced_frames += 1

    def no_speech(self, frame: Frame) -> None:
        self._noise_levels[frame.loudness.level] += 1

    def quality(self) -> Quality:
        return Quality(
            net_speech_s=self._speech_samples / SAMPLE_RATE,
            total_s=self._total_samples / SAMPLE_RATE,
            snr_db=self._snr_db(),
            clipping=self._clipped_samples / max(self._speech_samples, 1),
            peak_dbfs=_within(_PEAK_RANGE_DB, _db(self._peak**2)),
        )

    def _snr_db(self) -> float | None:
        if not self._voiced_frames:
            return None
        if self._noise_levels.sum() >= _ENOUGH_NOISE_FRAMES:
            noise = _percentile(self._noise_levels, 0.5)
        else:
            noise = _percentile(self._noise_levels + self._speech_levels, 0.1)
        voiced = self._voiced_power / self._voiced_frames
        return _within(_SNR_RANGE_DB, _db(voiced - noise) - _db(noise))


def _percentile(levels: NDArray[np.int64], fraction: float) -> float:
    """The power below which `fraction` of the frames counted in `levels` lie."""
    index = int(np.searchsorted(np.cumsum(levels), fraction * levels.sum()))
    return float(10 ** ((_LEVEL_RANGE_DB[0] + index * _LEVEL_STEP_DB) / 10))


def _db(power: float) -> float:
    return 10 * math.log10(max(power, _SILENCE))


def _within(limits: tuple[float, float], value: float) -> float:
    return min(max(value, limits[0]), limits[1])
