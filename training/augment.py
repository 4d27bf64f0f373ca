"""What a call does to a voice: room, noise, handset, telephone band, level.

Every function takes (samples,) float32, full scale 1, and gives the same shape; randomness is a
numpy Generator passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft, signal

from training.config import Augmentation, Range
from training.data import Pcm

Waveform = npt.NDArray[np.float32]
Rng = np.random.Generator

TELEPHONE_HZ = 8000
MU = 255.0
A = 87.6
SILENCE = 1e-8
FULL_SCALE = 32768.0


def rms(waveform: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def wrapped(audio: Pcm | Waveform, samples: int, position: float) -> Waveform:
    """A crop at full scale 1; shorter audio is repeated, as the server does, not zero-padded.

    `position` from 0 to 1 places it between the audio's start and its end.
    """
    start = round(position * max(0, audio.size - samples))
    full_scale = FULL_SCALE if audio.dtype == np.int16 else 1.0
    return np.resize(audio[start : start + samples] / np.float32(full_scale), samples)


def add_noise(speech: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Their sum, the noise scaled to lie `snr_db` below the speech; silent noise adds nothing."""
    gain = rms(speech) / max(rms(noise), SILENCE) * 10 ** (-snr_db / 20)
    return np.asarray(speech + noise * gain, np.float32)


def room_response(
    rt60_s: float, direct_db: float, sample_rate_hz: int, rng: Rng
) -> npt.NDArray[np.float64]:
    """A direct path, then exponentially decaying Gaussian noise: Polack's statistical room model.

    `direct_db` is the direct-to-reverberant energy ratio (Polack 1988, "La transmission de
    l'energie sonore dans les salles"); the tail is cut at 60 dB below its start.
    """
    time_s = np.arange(1, max(2, round(rt60_s * sample_rate_hz))) / sample_rate_hz
    tail = rng.standard_normal(time_s.size) * 10 ** (-3 * time_s / rt60_s)
    tail *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(np.square(tail)))
    return np.concatenate([[1.0], tail])


def reverberate(speech: Waveform, response: npt.NDArray[np.float64]) -> Waveform:
    """Convolution, cut to the length of the speech and brought back to its level."""
    wet = signal.oaconvolve(speech, response)[: speech.size]
    return np.asarray(wet * (rms(speech) / max(rms(wet), SILENCE)), np.float32)


def equalise(
    speech: Waveform,
    centres_hz: npt.NDArray[np.float64],
    gains_db: npt.NDArray[np.float64],
    sample_rate_hz: int,
) -> Waveform:
    """Zero-phase filter whose gain in dB runs straight over log-frequency between the centres."""
    spectrum = fft.rfft(speech)
    bins_hz = np.linspace(0.0, sample_rate_hz / 2, spectrum.size)
    curve_db = np.interp(np.log(np.maximum(bins_hz, 1.0)), np.log(centres_hz), gains_db)
    return np.asarray(fft.irfft(spectrum * 10 ** (curve_db / 20), speech.size), np.float32)


def handset(
    rng: Rng, deviation_db: float, sample_rate_hz: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centres and gains of a drawn microphone: a random walk of six steps above 100 Hz."""
    centres_hz = np.geomspace(100.0, sample_rate_hz / 2, 7)
    gains_db = np.cumsum(rng.normal(0.0, deviation_db, centres_hz.size))
    return centres_hz, gains_db - gains_db.mean()


def mu_law(speech: Waveform) -> Waveform:
    """Through 8 bits of the continuous mu-law that ITU-T G.711 approximates by segments."""
    squeezed = np.sign(speech) * np.log1p(MU * np.minimum(np.abs(speech), 1.0)) / np.log1p(MU)
    code = np.round(squeezed * 127.0) / 127.0
    restored = np.sign(code) * np.expm1(np.abs(code) * np.log1p(MU)) / MU
    return np.asarray(restored, np.float32)


def a_law(speech: Waveform) -> Waveform:
    """Through 8 bits of the continuous A-law that ITU-T G.711 approximates by segments."""
    size, slope = np.minimum(np.abs(speech), 1.0), 1.0 + np.log(A)
    linear = size < 1 / A
    squeezed = np.where(linear, A * size, 1.0 + np.log(np.maximum(A * size, 1.0))) / slope
    code = (np.floor(squeezed * 128.0).clip(max=127.0) + 0.5) / 128.0
    restored = np.where(code < 1 / slope, code * slope / A, np.exp(code * slope - 1.0) / A)
    return np.asarray(np.where(speech < 0, -restored, restored), np.float32)


def telephone(
    speech: Waveform,
    sample_rate_hz: int,
    *,
    low_hz: float,
    high_hz: float,
    companding: Callable[[Waveform], Waveform],
) -> Waveform:
    """Band-limited, taken down to 8 kHz, companded, and back at the rate it came in."""
    spectrum = fft.rfft(speech)
    bins_hz = np.linspace(0.0, sample_rate_hz / 2, spectrum.size)
    band = 1 / np.sqrt(
        (1 + (low_hz / np.maximum(bins_hz, 1.0)) ** 8) * (1 + (bins_hz / high_hz) ** 24)
    )
    narrow_samples = round(speech.size * TELEPHONE_HZ / sample_rate_hz)
    ratio = narrow_samples / speech.size
    narrow = fft.irfft((spectrum * band)[: narrow_samples // 2 + 1], narrow_samples) * ratio
    coded = fft.rfft(companding(narrow.astype(np.float32)))
    wide = np.zeros_like(spectrum)
    wide[: coded.size] = coded
    wide[coded.size - 1] = 0.0
    return np.asarray(fft.irfft(wide, speech.size) / ratio, np.float32)


class Channel:
    """Draws a channel for each clip: room, then noise and babble, equaliser, telephone, level.

    `noises` and `voices` are int16 recordings at the same rate; without noises only babble,
    which sums voices, is added.
    """

    def __init__(
        self,
        settings: Augmentation,
        sample_rate_hz: int,
        noises: Sequence[Pcm],
        voices: Sequence[Pcm],
    ) -> None:
        self._settings = settings
        self._rate_hz = sample_rate_hz
        self._noises = noises
        self._voices = voices

    def __call__(self, speech: Waveform, rng: Rng) -> Waveform:
        chosen = self._settings
        if rng.random() < chosen.room:
            speech = self._in_a_room(speech, rng)
        if self._noises and rng.random() < chosen.noise:
            noise = self._cut(self._noises, speech.size, rng)
            speech = add_noise(speech, noise, rng.uniform(*chosen.noise_snr_db_range))
        if rng.random() < chosen.babble:
            speech = self._among_voices(speech, rng)
        if rng.random() < chosen.equaliser:
            centres_hz, gains_db = handset(rng, chosen.equaliser_deviation_db, self._rate_hz)
            speech = equalise(speech, centres_hz, gains_db, self._rate_hz)
        speech = at_level(speech, chosen.level_dbfs_range, rng)
        if rng.random() < chosen.telephone:
            speech = self._over_the_telephone(speech, rng)
        return speech

    def _in_a_room(self, speech: Waveform, rng: Rng) -> Waveform:
        rt60_s = rng.uniform(*self._settings.room_rt60_s_range)
        direct_db = rng.uniform(*self._settings.room_direct_db_range)
        return reverberate(speech, room_response(rt60_s, direct_db, self._rate_hz, rng))

    def _among_voices(self, speech: Waveform, rng: Rng) -> Waveform:
        babble = np.zeros_like(speech)
        for _ in range(self._settings.babble_voices):
            voice = self._cut(self._voices, speech.size, rng)
            babble += voice / np.float32(max(rms(voice), SILENCE))
        return add_noise(speech, babble, rng.uniform(*self._settings.babble_snr_db_range))

    def _over_the_telephone(self, speech: Waveform, rng: Rng) -> Waveform:
        return telephone(
            speech,
            self._rate_hz,
            low_hz=rng.uniform(80.0, 350.0),
            high_hz=rng.uniform(3000.0, 3800.0),
            companding=mu_law if rng.random() < 0.5 else a_law,
        )

    def _cut(self, recordings: Sequence[Pcm], samples: int, rng: Rng) -> Waveform:
        return wrapped(recordings[int(rng.integers(len(recordings)))], samples, rng.random())


def at_level(speech: Waveform, dbfs_range: Range, rng: Rng) -> Waveform:
    """At a drawn RMS level, clipped at full scale."""
    gain = 10 ** (rng.uniform(*dbfs_range) / 20) / max(rms(speech), SILENCE)
    return np.asarray(np.clip(speech * gain, -1.0, 1.0), np.float32)
