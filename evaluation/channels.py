"""What lies between a mouth and a recording, simulated: room, noise, handset, codec, level.

Everything is drawn from a seed, the clip's name and the side of the trial, so that a clip always
comes through the same channel on one side, and through another one on the other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from evaluation import codecs

Samples = NDArray[np.float32]
Rng = np.random.Generator

VERSION = 1
CODECS = ("none", "mulaw", "gsm", "opus")
FRAME_S = 0.02
ACTIVE_RANGE_DB = 35.0


@dataclass(frozen=True, slots=True)
class CrossChannel:
    """A channel of its own for each clip on each `side`, "enrol" or "test"."""

    seed: int
    side: str

    @property
    def key(self) -> str:
        return f"cross-channel-{VERSION}:{self.seed}:{self.side}"

    def __call__(self, name: str, samples: Samples, rate: int) -> Samples:
        rng = generator(self.key, name)
        if rng.random() < 0.7:
            samples = room(samples, rate, rt60_s=rng.uniform(0.15, 0.6), rng=rng)
        samples = noisy(samples, rate, snr_db=rng.uniform(8, 30), rng=rng)
        samples = handset(samples, rate, rng)
        if rng.random() < 0.5:
            samples = narrow_band(samples, rate)
        samples = codecs.apply(str(rng.choice(CODECS)), samples, rate, rng)
        return level(samples, rng.uniform(-24, -3))


def generator(*what: str) -> Rng:
    """A random generator that depends on nothing but `what`."""
    digest = hashlib.sha256("|".join(what).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def room(samples: Samples, rate: int, *, rt60_s: float, rng: Rng) -> Samples:
    """A decaying noise tail after the direct sound, of a random direct-to-reverberant ratio."""
    time_s = np.arange(int(rt60_s * rate)) / rate
    tail = rng.normal(size=len(time_s)) * 10 ** (-3 * time_s / rt60_s)
    tail *= 10 ** (-rng.uniform(0, 12) / 20) / np.linalg.norm(tail)
    tail[0] += 1
    heard: Samples = fftconvolve(samples, tail)[: len(samples)].astype(np.float32)
    return heard


def noisy(samples: Samples, rate: int, *, snr_db: float, rng: Rng) -> Samples:
    """With stationary noise of a random slope, `snr_db` below the active level of speech."""
    slope_db = rng.uniform(-6, 0)  # an octave
    noise = _shaped(rng.normal(size=len(samples)), rate, slope_db)
    return _mixed(samples, noise, rate, snr_db)


def speech_shaped(samples: Samples, rate: int, *, snr_db: float, rng: Rng) -> Samples:
    """With noise of the clip's own long-term spectrum, `snr_db` below its active level."""
    spectrum = np.fft.rfft(samples)
    noise = np.fft.irfft(
        np.abs(spectrum) * np.exp(2j * np.pi * rng.random(len(spectrum))), len(samples)
    )
    return _mixed(samples, noise, rate, snr_db)


def handset(samples: Samples, rate: int, rng: Rng) -> Samples:
    """A smooth frequency response: a few decibels up or down in each of eight bands."""
    bands_hz = np.geomspace(80, rate / 2, 8)
    gains_db = rng.normal(0, 4, len(bands_hz))
    hertz = np.fft.rfftfreq(len(samples), 1 / rate)
    response_db = np.interp(np.log(np.maximum(hertz, 1)), np.log(bands_hz), gains_db)
    response_db -= 12 * np.log2(np.maximum(rng.uniform(60, 300) / np.maximum(hertz, 1), 1))
    heard = np.fft.irfft(np.fft.rfft(samples) * 10 ** (response_db / 20), len(samples))
    return np.asarray(heard, np.float32)


def narrow_band(samples: Samples, rate: int) -> Samples:
    """What 8 kHz sampling leaves."""
    narrow = soxr.resample(samples, rate, codecs.TELEPHONE_HZ)
    wide: Samples = soxr.resample(narrow, codecs.TELEPHONE_HZ, rate)
    return codecs.as_long_as(samples, wide)


def level(samples: Samples, peak_dbfs: float) -> Samples:
    """With its peak at `peak_dbfs`."""
    peak = float(np.abs(samples).max(initial=0)) or 1.0
    return (samples * (10 ** (peak_dbfs / 20) / peak)).astype(np.float32)


def active_power(samples: Samples, rate: int) -> float:
    """Mean power of the 20 ms frames within 35 dB of the loudest."""
    size = int(FRAME_S * rate)
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    power = np.mean(frames**2, axis=1) if len(frames) else np.array([np.mean(samples**2)])
    return float(power[power >= power.max() * 10 ** (-ACTIVE_RANGE_DB / 10)].mean())


def _mixed(samples: Samples, noise: NDArray[np.float64], rate: int, snr_db: float) -> Samples:
    wanted = active_power(samples, rate) / 10 ** (snr_db / 10)
    gain = np.sqrt(wanted / max(float(np.mean(noise**2)), 1e-20))
    mixed: Samples = (samples + gain * noise).astype(np.float32)
    return mixed


def _shaped(noise: NDArray[np.float64], rate: int, slope_db: float) -> NDArray[np.float64]:
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(noise), 1 / rate), 50) / 50)
    spectrum = np.fft.rfft(noise) * 10 ** (slope_db * octaves / 20)
    return np.fft.irfft(spectrum, len(noise))
