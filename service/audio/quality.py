"""Quality: how well speech was heard, measured on the raw signal in running sums."""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000

Samples = NDArray[np.float32]
Frame = tuple[int, bool]  # the level nearest to its power, whether it is voiced

_CLIPPED = 0.975
_SNR_RANGE_DB = (-10.0, 60.0)
_PEAK_RANGE_DB = (-120.0, 0.0)
_LEVEL_STEP_DB = 1.0
_LEVELS_DB: list[float] = np.arange(-100, 21, _LEVEL_STEP_DB).tolist()
_BOUNDS = np.array([10 ** ((level_db + _LEVEL_STEP_DB / 2) / 10) for level_db in _LEVELS_DB[:-1]])
_SILENT = _LEVELS_DB.index(-95.0)  # digital silence, at most the rounding of 16-bit samples
_RUMBLE_HZ = np.arange(0, 75, 5)
_RUMBLE_DIMENSIONS = 9
_NEAR_FRAMES = 10
_ENOUGH_NOISE_FRAMES = 10
_VOICED_SHARE, _NOISE_SHARE, _QUIET_SPEECH_SHARE = 0.7, 0.5, 0.1
_SILENCE = 1e-20


@dataclass(frozen=True, slots=True)
class Suspicions:
    """What the decoder noticed of audio: `implausible` says what it looks like instead of what it
    is declared as, `louder_channel` is the other one of two if it is much louder."""

    implausible: str = ""
    louder_channel: int | None = None


UNSUSPICIOUS = Suspicions()


@dataclass(frozen=True, slots=True)
class Quality:
    """What was heard, in seconds and decibels, measured on the signal as it came.

    `snr_db` (-10..60, None without speech) is the power above 100 Hz that 70% of voiced frames do
    not exceed, less the noise, over the noise. Noise is the 10th percentile of frames of speech
    (a minimum statistic, after Martin 2001) or, if less, the median of the frames within a third
    of a second of speech: what a call holds elsewhere, tones and silence above all, is not under
    the voice. Digital silence is no noise. `clipping` is the share of speech samples at or beyond
    0.975 of full scale, just below where mu-law ends. `peak_dbfs` is in -120..0.
    """

    net_speech_s: float
    total_s: float
    snr_db: float | None
    clipping: float
    peak_dbfs: float
    suspicions: Suspicions = UNSUSPICIOUS


def levels(frames: Samples, *, padding: int = 0) -> list[int]:
    """The level nearest to the power above 100 Hz of each of `frames (n, samples)`, the last
    `padding` samples of which are not the signal's."""
    signal = frames.astype(np.float64)
    rumble = np.vecdot(signal[:, np.newaxis], _rumble(frames.shape[1]))  # (n, 9)
    power = np.vecdot(signal, signal) - np.vecdot(rumble, rumble)  # (n,)
    nearest: list[int] = _BOUNDS.searchsorted(power / (frames.shape[1] - padding)).tolist()
    return nearest


@cache
def _rumble(samples: int) -> NDArray[np.float64]:
    """An orthonormal basis `(9, samples)` of what lies below 75 Hz in so short a time (Slepian
    1978): without it, an offset and hum at 50 and 60 Hz are 60 dB less, a voice of 120 Hz 2 dB."""
    phase = 2 * np.pi * np.outer(_RUMBLE_HZ, np.arange(samples) / SAMPLE_RATE)
    waves = np.concatenate([np.cos(phase), np.sin(phase)])
    return np.ascontiguousarray(np.linalg.svd(waves, full_matrices=False)[2][:_RUMBLE_DIMENSIONS])


class Meter:
    """Running sums and three histograms of frame levels: the same memory for any length.

    It takes the frames in their order, as speech and as none.
    """

    def __init__(self) -> None:
        self._total_samples = self._speech_samples = self._clipped_samples = 0
        self._peak = 0.0
        self._voiced, self._speech, self._noise = ([0] * len(_LEVELS_DB) for _ in range(3))
        self._before = deque[int](maxlen=_NEAR_FRAMES)  # levels of noise if speech comes next
        self._after = 0  # frames that are near the last speech if no speech comes

    def hear(self, samples: Samples) -> None:
        self._total_samples += samples.size
        self._peak = float(np.maximum.reduce(np.abs(samples), initial=self._peak))

    def speech(self, samples: Samples, frames: Sequence[Frame]) -> None:
        """Counts `frames` of speech, whose `samples (n,)` were heard before."""
        self._speech_samples += samples.size
        if self._peak >= _CLIPPED:
            self._clipped_samples += int(np.count_nonzero(np.abs(samples) >= _CLIPPED))
        self._count_noise(self._before)
        self._before.clear()
        self._after = _NEAR_FRAMES
        for level, voiced in frames:
            if level > _SILENT:
                self._speech[level] += 1
            if voiced:
                self._voiced[level] += 1

    def no_speech(self, frames: Sequence[Frame]) -> None:
        quiet = [level for level, _ in frames]
        if self._after:
            self._count_noise(quiet[: self._after])
            quiet, self._after = quiet[self._after :], max(0, self._after - len(quiet))
        self._before.extend(quiet)

    @property
    def net_speech_s(self) -> float:
        """As in `quality`, for what is asked at every message of a call."""
        return self._speech_samples / SAMPLE_RATE

    @property
    def total_s(self) -> float:
        """As in `quality`, for what is asked at every block of a call."""
        return self._total_samples / SAMPLE_RATE

    def quality(self) -> Quality:
        return Quality(
            net_speech_s=self.net_speech_s,
            total_s=self.total_s,
            snr_db=self._snr_db(),
            clipping=self._clipped_samples / max(self._speech_samples, 1),
            peak_dbfs=_within(_PEAK_RANGE_DB, _db(self._peak**2)),
        )

    def _count_noise(self, levels: Iterable[int]) -> None:
        for level in levels:
            if level > _SILENT:
                self._noise[level] += 1

    def _snr_db(self) -> float | None:
        if not any(self._voiced):
            return None
        noise = _percentile(self._speech, _QUIET_SPEECH_SHARE)
        if sum(self._noise) >= _ENOUGH_NOISE_FRAMES:
            noise = min(noise, _percentile(self._noise, _NOISE_SHARE))
        voiced = _percentile(self._voiced, _VOICED_SHARE)
        return _within(_SNR_RANGE_DB, _db(voiced - noise) - _db(noise))


def _percentile(levels: list[int], fraction: float) -> float:
    """The power below which `fraction` of the frames counted in `levels` lie; that of silence
    without frames."""
    below = list(accumulate(levels))
    level = bisect_left(below, fraction * below[-1]) if below[-1] else 0
    return float(10 ** (_LEVELS_DB[level] / 10))


def _db(power: float) -> float:
    return 10 * math.log10(max(power, _SILENCE))


def _within(limits: tuple[float, float], value: float) -> float:
    return min(max(value, limits[0]), limits[1])
