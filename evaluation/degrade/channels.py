"""Simulated channels from mouth to recording: room, noise, handset, band, codec, level.

Everything is drawn from a seed, the clip's name and the side of the trial: a clip always comes
through the same channel on one side of a trial, and through another one on the other side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import fftconvolve

from evaluation.degrade import codecs

Samples = NDArray[np.float32]
Rng = np.random.Generator

VERSION = 3
FRAME_S = 0.02
LINE_HZ = (300.0, 3400.0)
GENTLE_DB = 24.0  # an octave
ACTIVE_RANGE_DB = 35.0


@dataclass(frozen=True, slots=True)
class Kind:
    """The distribution from which the channels of one `name` are drawn.

    The signal-to-noise ratio in decibels lies between two values, `rooms` and `narrow` are the
    shares of channels with a room and with a narrow band, and all `codecs` are equally likely. A
    narrow band is 8 kHz sampling alone, or a steep or gentle telephone line, equally likely.
    """

    name: str
    snr_db: tuple[float, float]
    rooms: float
    narrow: float
    codecs: tuple[str, ...]


ANY = Kind("cross-channel", (8, 30), 0.7, 0.5, ("none", "mulaw", "gsm", "mp3", "opus"))
CLEAN = Kind("cross-clean", (25, 40), 0.5, 0.0, ("none",))
TELEPHONE = Kind("cross-telephone", (15, 30), 0.5, 1.0, ("mulaw", "gsm"))
NOISY = Kind("cross-noisy", (5, 15), 0.7, 0.5, ("none", "mulaw", "gsm", "mp3", "opus"))


@dataclass(frozen=True, slots=True)
class CrossChannel:
    """A channel of its own for each clip on each `side`, "enrol" or "test"."""

    seed: int
    side: str
    kind: Kind

    @property
    def key(self) -> str:
        return f"{self.kind.name}-{VERSION}:{self.seed}:{self.side}"

    def __call__(self, name: str, samples: Samples, rate: int) -> Samples:
        rng, kind = seed_generator(self.key, name), self.kind
        if rng.random() < kind.rooms:
            samples = add_room(samples, rate, rt60_s=rng.uniform(0.15, 0.6), rng=rng)
        samples = add_noise(samples, rate, snr_db=rng.uniform(*kind.snr_db), rng=rng)
        samples = filter_handset(samples, rate, rng)
        if rng.random() < kind.narrow:
            band = BANDS[int(rng.integers(len(BANDS)))]
            samples = band(samples, rate)
        samples = codecs.apply(str(rng.choice(kind.codecs)), samples, rate, rng)
        return set_peak(samples, rng.uniform(-24, -3))


def seed_generator(*what: str) -> Rng:
    """A random generator that depends on `what` alone."""
    digest = hashlib.sha256("|".join(what).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def add_room(samples: Samples, rate: int, *, rt60_s: float, rng: Rng) -> Samples:
    """Add a decaying tail after the direct sound, at a random direct-to-reverberant ratio."""
    time_s = np.arange(int(rt60_s * rate)) / rate
    tail = rng.normal(size=len(time_s)) * 10 ** (-3 * time_s / rt60_s)
    tail *= 10 ** (-rng.uniform(0, 12) / 20) / np.linalg.norm(tail)
    tail[0] += 1
    reverberant: Samples = fftconvolve(samples, tail)[: len(samples)].astype(np.float32)
    return reverberant


def add_noise(samples: Samples, rate: int, *, snr_db: float, rng: Rng) -> Samples:
    """Add stationary noise of a random slope, `snr_db` below the active level of speech."""
    slope_db = rng.uniform(-6, 0)  # an octave

    def sloped_db(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return slope_db * np.log2(np.maximum(hertz, 50) / 50)

    white = rng.standard_normal(len(samples), np.float32)
    return _mix(samples, _filter(white, rate, sloped_db), rate, snr_db)


def add_speech_shaped_noise(samples: Samples, rate: int, *, snr_db: float, rng: Rng) -> Samples:
    """Add noise of the clip's own long-term spectrum, `snr_db` below its active level."""
    size = fft.next_fast_len(len(samples), real=True)
    spectrum = fft.rfft(samples, size)
    noise = fft.irfft(np.abs(spectrum) * np.exp(2j * np.pi * rng.random(len(spectrum))), size)
    return _mix(samples, noise[: len(samples)], rate, snr_db)


def filter_handset(samples: Samples, rate: int, rng: Rng) -> Samples:
    """Apply a smooth frequency response, a few decibels up or down in each of eight bands."""
    bands_hz = np.geomspace(80, rate / 2, 8)
    gains_db = rng.normal(0, 4, len(bands_hz))
    cutoff_hz = rng.uniform(60, 300)

    def response_db(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        db = np.interp(np.log(np.maximum(hertz, 1)), np.log(bands_hz), gains_db)
        db -= 12 * np.log2(np.maximum(cutoff_hz / np.maximum(hertz, 1), 1))
        return db

    return _filter(samples, rate, response_db)


def narrow_band(samples: Samples, rate: int) -> Samples:
    """Keep what 8 kHz sampling keeps."""
    narrow = soxr.resample(samples, rate, codecs.TELEPHONE_HZ)
    wide: Samples = soxr.resample(narrow, codecs.TELEPHONE_HZ, rate)
    return codecs.match_length(samples, wide)


def steep_line(samples: Samples, rate: int) -> Samples:
    """Keep 300 to 3400 Hz and nothing else, as the steepest telephone line."""
    low, high = LINE_HZ

    def response_db(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where((hertz < low) | (hertz > high), -200.0, 0.0)

    return _filter(samples, rate, response_db)


def gentle_line(samples: Samples, rate: int) -> Samples:
    """Keep 300 to 3400 Hz with edges of 24 dB an octave, as an analog telephone line."""
    low, high = LINE_HZ

    def response_db(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        beyond = np.maximum(low / np.maximum(hertz, 1), hertz / high)
        return -GENTLE_DB * np.log2(np.maximum(beyond, 1))

    return _filter(samples, rate, response_db)


def set_peak(samples: Samples, peak_dbfs: float) -> Samples:
    """Scale the peak to `peak_dbfs`."""
    peak = float(np.abs(samples).max(initial=0)) or 1.0
    return (samples * (10 ** (peak_dbfs / 20) / peak)).astype(np.float32)


def measure_active_power(samples: Samples, rate: int) -> float:
    """Mean power of the 20 ms frames within 35 dB of the loudest."""
    size = int(FRAME_S * rate)
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    power = np.mean(frames**2, axis=1) if len(frames) else np.array([np.mean(samples**2)])
    return float(power[power >= power.max() * 10 ** (-ACTIVE_RANGE_DB / 10)].mean())


def _mix(samples: Samples, noise: Samples, rate: int, snr_db: float) -> Samples:
    wanted = measure_active_power(samples, rate) / 10 ** (snr_db / 10)
    gain = np.sqrt(wanted / max(float(np.mean(noise**2)), 1e-20))
    mixed: Samples = (samples + gain * noise).astype(np.float32)
    return mixed


def _filter(
    samples: Samples,
    rate: int,
    response_db: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Samples:
    """Apply to `samples` (n,) the gain `response_db` of each frequency in hertz, without phase."""
    size = fft.next_fast_len(len(samples), real=True)
    gain = 10 ** (response_db(fft.rfftfreq(size, 1 / rate)) / 20)
    filtered = fft.irfft(fft.rfft(samples, size) * gain, size)[: len(samples)]
    return np.asarray(filtered, np.float32)


BANDS: tuple[Callable[[Samples, int], Samples], ...] = (narrow_band, steep_line, gentle_line)
