"""Quality: how well speech was heard, measured on the raw signal in running sums."""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000

Samples = NDArray[np.float32]
Frame = tuple[float, int, bool]  # its power, the level nearest to it, whether it is voiced

_CLIPPED = 0.975
_SNR_RANGE_DB = (-10.0, 60.0)
_PEAK_RANGE_DB = (-120.0, 0.0)
_LEVEL_STEP_DB = 0.5
_LEVELS_DB: list[float] = np.arange(-100, 20 + _LEVEL_STEP_DB, _LEVEL_STEP_DB).tolist()
_POWERS = [10 ** (level_db / 10) for level_db in _LEVELS_DB]
_BOUNDS = np.array([10 ** ((level_db + _LEVEL_STEP_DB / 2) / 10) for level_db in _LEVELS_DB[:-1]])
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


def loudness(frames: Samples) -> Iterator[tuple[float, int]]:
    """The power of each of `frames (n, samples)`, a mean square, and the level nearest to it."""
    squares = np.square(frames.astype(np.float64))
    powers = np.add.reduce(squares, axis=1) / frames.shape[1]
    return zip(powers.tolist(), _BOUNDS.searchsorted(powers).tolist(), strict=True)


class Meter:
    """Running sums and two histograms of frame levels: the same memory for any length."""

    def __init__(self) -> None:
        self._total_samples = self._speech_samples = self._clipped_samples = 0
        self._peak = 0.0
        self._voiced_power = 0.0
        self._voiced_frames = self._noise_frames = 0
        self._levels = [0] * len(_POWERS)
        self._noise_levels = [0] * len(_POWERS)

    def hear(self, samples: Samples) -> None:
        self._total_samples += samples.size
        self._peak = float(np.maximum.reduce(np.abs(samples), initial=self._peak))

    def speech(self, samples: Samples, frames: Sequence[Frame]) -> None:
        """Counts `frames` of speech, whose `samples (n,)` were heard before."""
        self._speech_samples += samples.size
        if self._peak >= _CLIPPED:
            self._clipped_samples += int(np.count_nonzero(np.abs(samples) >= _CLIPPED))
        for power, level, voiced in frames:
            self._levels[level] += 1
            if voiced:
                self._voiced_power += power  # one by one: so no chunking shows in the sum
                self._voiced_frames += 1

    def no_speech(self, frames: Sequence[Frame]) -> None:
        self._noise_frames += len(frames)
        for _, level, _ in frames:
            self._levels[level] += 1
            self._noise_levels[level] += 1

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
        if self._noise_frames >= _ENOUGH_NOISE_FRAMES:
            noise = _percentile(self._noise_levels, 0.5)
        else:
            noise = _percentile(self._levels, 0.1)
        voiced = self._voiced_power / self._voiced_frames
        return _within(_SNR_RANGE_DB, _db(voiced - noise) - _db(noise))


def _percentile(levels: list[int], fraction: float) -> float:
    """The power below which `fraction` of the frames counted in `levels` lie."""
    below = list(accumulate(levels))
    return _POWERS[bisect_left(below, fraction * below[-1])]


def _db(power: float) -> float:
    return 10 * math.log10(max(power, _SILENCE))


def _within(limits: tuple[float, float], value: float) -> float:
    return min(max(value, limits[0]), limits[1])
