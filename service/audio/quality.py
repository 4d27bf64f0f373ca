"""Quality: how good the audio is, measured on the raw signal in running sums."""

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
Frame = tuple[int, bool]  # the index of its level, whether it is voiced

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
    """What the decoder doubts: `implausible` says what the audio looks like instead of what it is
    declared as, `louder_channel` is the other channel of two if it is much louder."""

    implausible: str = ""
    louder_channel: int | None = None


UNSUSPICIOUS = Suspicions()


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of some audio, in seconds and decibels, measured on the signal as it came.

    `snr_db` (-10..60, None without speech) compares two powers above 100 Hz. The voice is the 70th
    percentile of voiced frames, less the noise. The noise is the 10th percentile of speech frames
    (a minimum statistic, after Martin 2001) or, if that is less, the median of the frames within a
    third of a second of speech: tones and silence elsewhere in a call are not under the voice.
    Digital silence is not counted as noise. `clipping` is the share of speech samples at or beyond
    0.975 of full scale, just below where mu-law ends. `peak_dbfs` is in -120..0.
    """

    net_speech_s: float
    total_s: float
    snr_db: float | None
    clipping: float
    peak_dbfs: float
    suspicions: Suspicions = UNSUSPICIOUS


def measure_levels(frames: Samples, *, padding: int = 0) -> list[int]:
    """Return the index of the level nearest to the power above 100 Hz of each of
    `frames (n, samples)`. The last `padding` samples are not the signal's."""
    signal = frames.astype(np.float64)
    rumble = np.vecdot(signal[:, np.newaxis], _rumble_basis(frames.shape[1]))  # (n, 9)
    power = np.vecdot(signal, signal) - np.vecdot(rumble, rumble)  # (n,)
    nearest: list[int] = _BOUNDS.searchsorted(power / (frames.shape[1] - padding)).tolist()
    return nearest


@cache
def _rumble_basis(samples: int) -> NDArray[np.float64]:
    """Return an orthonormal basis `(9, samples)` of signals below 75 Hz (Slepian 1978). Removing
    them takes 60 dB off an offset and hum at 50 and 60 Hz, and 2 dB off a voice of 120 Hz."""
    phase = 2 * np.pi * np.outer(_RUMBLE_HZ, np.arange(samples) / SAMPLE_RATE)
    waves = np.concatenate([np.cos(phase), np.sin(phase)])
    return np.ascontiguousarray(np.linalg.svd(waves, full_matrices=False)[2][:_RUMBLE_DIMENSIONS])


class QualityMeter:
    """Running sums and three histograms of frame levels: the same memory for audio of any length.

    Frames are added in their order, as speech or as a pause.
    """

    def __init__(self) -> None:
        self._total_samples = self._speech_samples = self._clipped_samples = 0
        self._peak = 0.0
        self._voiced, self._speech, self._noise = ([0] * len(_LEVELS_DB) for _ in range(3))
        self._before = deque[int](maxlen=_NEAR_FRAMES)  # levels that count as noise if speech comes
        self._after = 0  # how many frames to come are near the last speech

    def add(self, samples: Samples) -> None:
        self._total_samples += samples.size
        self._peak = float(np.maximum.reduce(np.abs(samples), initial=self._peak))

    def add_speech(self, samples: Samples, frames: Sequence[Frame]) -> None:
        """Count `frames` of speech, whose `samples (n,)` were added before."""
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

    def add_pause(self, frames: Sequence[Frame]) -> None:
        quiet = [level for level, _ in frames]
        if self._after:
            self._count_noise(quiet[: self._after])
            quiet, self._after = quiet[self._after :], max(0, self._after - len(quiet))
        self._before.extend(quiet)

    @property
    def net_speech_s(self) -> float:
        """As in `quality`, but quick to read: every block of a call needs it."""
        return self._speech_samples / SAMPLE_RATE

    @property
    def total_s(self) -> float:
        """As in `quality`, but quick to read: every block of a call needs it."""
        return self._total_samples / SAMPLE_RATE

    def quality(self) -> Quality:
        return Quality(
            net_speech_s=self.net_speech_s,
            total_s=self.total_s,
            snr_db=self._snr_db(),
            clipping=self._clipped_samples / max(self._speech_samples, 1),
            peak_dbfs=_clamp(_PEAK_RANGE_DB, _to_db(self._peak**2)),
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
        return _clamp(_SNR_RANGE_DB, _to_db(voiced - noise) - _to_db(noise))


def _percentile(levels: list[int], fraction: float) -> float:
    """Return the power below which `fraction` of the frames counted in `levels` lie, that of
    silence if there are none."""
    below = list(accumulate(levels))
    level = bisect_left(below, fraction * below[-1]) if below[-1] else 0
    return float(10 ** (_LEVELS_DB[level] / 10))


def _to_db(power: float) -> float:
    return 10 * math.log10(max(power, _SILENCE))


def _clamp(limits: tuple[float, float], value: float) -> float:
    return min(max(value, limits[0]), limits[1])
