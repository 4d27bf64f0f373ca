"""Speech taken apart and made again: what a vocoder leaves out is what gives it away.

`speech` and `other`, a clip of another speaker, are (samples,) float32 at `rate_hz`.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt
import soxr
from scipy import signal

from training.augment.waveform import SILENCE, Rng, Waveform, fit_length, measure_rms
from training.spoofs import programs

CODEC2_HZ = 8000
CODEC2_MODES = ("3200", "2400", "1600", "1300")
FULL_SCALE = 32767
FRAME_S, HOP_S = 0.03, 0.01
WORLD_HOP_S = 0.005


def copy_by_world(speech: Waveform, rate_hz: int) -> Waveform:
    """WORLD (Morise et al. 2016): pitch, spectral envelope and aperiodicity, put together again."""
    world, (pitch_hz, envelope, aperiodicity) = _analyze(speech, rate_hz)
    made = world.synthesize(pitch_hz, envelope, aperiodicity, rate_hz)
    return fit_length(speech, made)


def convert_by_world(speech: Waveform, other: Waveform, rate_hz: int) -> Waveform:
    """Move the pitch of `speech`, and its formants by half as much, towards the speaker of `other`.

    Mean and deviation of the log pitch become those of the other (Liu et al. 2007); formants are
    moved by a stretch of the envelope's frequency axis between 0.84 and 1.19.
    """
    world, (pitch_hz, envelope, aperiodicity) = _analyze(speech, rate_hz)
    _, (other_hz, other_envelope, _) = _analyze(other, rate_hz)
    moved_hz = move_pitch(pitch_hz, other_hz)
    stretch = np.clip(_mean_pitch(moved_hz) / _mean_pitch(pitch_hz), 0.7, 1.4) ** 0.5
    warped = stretch_envelope(envelope, float(stretch))
    # what is left between the two long-term spectra is the voice's timbre, and its channel
    tilt = np.log(other_envelope + SILENCE).mean(axis=0) - np.log(warped + SILENCE).mean(axis=0)
    warped = warped * np.exp(0.5 * (tilt - tilt.mean()))
    made = world.synthesize(moved_hz, np.ascontiguousarray(warped), aperiodicity, rate_hz)
    return fit_length(speech, made)


def move_pitch(
    pitch_hz: npt.NDArray[np.float64], towards_hz: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The contour with the log mean and deviation of the other; 0 Hz stays, it is unvoiced."""
    voiced, other = pitch_hz > 0, towards_hz > 0
    if voiced.sum() < 2 or other.sum() < 2:
        return pitch_hz
    own_log, other_log = np.log(pitch_hz[voiced]), np.log(towards_hz[other])
    normal = (own_log - own_log.mean()) / max(own_log.std(), 1e-3)
    moved = np.zeros_like(pitch_hz)
    moved[voiced] = np.exp(normal * other_log.std() + other_log.mean())
    return np.clip(moved, 0, 500)


def stretch_envelope(envelope: npt.NDArray[np.float64], stretch: float) -> npt.NDArray[np.float64]:
    """Move what is at each frequency of (frames, bins) to `stretch` times that frequency."""
    bins = np.arange(envelope.shape[1])
    return np.stack([np.interp(bins / stretch, bins, frame) for frame in envelope])


def rebuild_phase(speech: Waveform, rate_hz: int, rng: Rng) -> Waveform:
    """An 80-band mel spectrogram inverted, its phase found by iteration (Griffin and Lim 1984)."""
    spectra = np.abs(librosa.stft(speech, n_fft=1024, hop_length=256, win_length=800))
    bands = librosa.filters.mel(sr=rate_hz, n_fft=1024, n_mels=80)
    inverse = np.linalg.pinv(bands)
    spectra = np.maximum(inverse @ (bands @ spectra), 1e-5)
    made = librosa.griffinlim(
        spectra,
        n_iter=int(rng.integers(8, 25)),
        hop_length=256,
        win_length=800,
        random_state=int(rng.integers(2**31)),
    )
    return fit_length(speech, made)


def predict_linearly(speech: Waveform, rate_hz: int, rng: Rng) -> Waveform:
    """Linear prediction excited by pulses at the pitch, or by noise (Atal and Hanauer 1971)."""
    _, (pitch_hz, _, _) = _analyze(speech, rate_hz)
    frame, hop, order = round(FRAME_S * rate_hz), round(HOP_S * rate_hz), rate_hz // 1000 + 4
    window = np.hanning(frame)
    excitation = _excite(pitch_hz, speech.size, rate_hz, rng)
    made = np.zeros(speech.size + frame)
    for start in range(0, speech.size - frame, hop):
        part = speech[start : start + frame] * window
        level = measure_rms(part)
        if level < 1e-5:
            continue
        filtered = signal.lfilter(
            [1.0], librosa.lpc(part + 1e-6 * rng.standard_normal(frame), order=order),
            excitation[start : start + frame],
        ) * window  # fmt: skip
        made[start : start + frame] += filtered * level / max(measure_rms(filtered), SILENCE)
    return np.asarray(made[: speech.size] * (hop / frame * 2), np.float32)


def code_by_codec2(speech: Waveform, rate_hz: int, rng: Rng) -> Waveform:
    """Codec 2 (Rowe): sinusoids from 1.3 to 3.2 kb/s, at 8 kHz."""
    programs.require("c2enc", "codec2")
    narrow = soxr.resample(speech, rate_hz, CODEC2_HZ)
    mode = CODEC2_MODES[int(rng.integers(len(CODEC2_MODES)))]
    with tempfile.TemporaryDirectory() as folder:
        raw, coded, decoded = (Path(folder, name) for name in ("raw", "coded", "decoded"))
        raw.write_bytes(np.asarray(np.clip(narrow, -1, 1) * FULL_SCALE, "<i2").tobytes())
        programs.run(["c2enc", mode, str(raw), str(coded)])
        programs.run(["c2dec", mode, str(coded), str(decoded)])
        made = np.frombuffer(decoded.read_bytes(), "<i2").astype(np.float32) / FULL_SCALE
    return fit_length(speech, soxr.resample(made, CODEC2_HZ, rate_hz))


def _excite(
    pitch_hz: npt.NDArray[np.float64], samples: int, rate_hz: int, rng: Rng
) -> npt.NDArray[np.float64]:
    """Unit pulses where there is a pitch, white noise elsewhere, (samples,)."""
    frames = np.minimum(
        (np.arange(samples) / (WORLD_HOP_S * rate_hz)).astype(int), len(pitch_hz) - 1
    )
    contour_hz = pitch_hz[frames]
    turns = np.floor(np.cumsum(contour_hz / rate_hz))
    pulses = np.diff(turns, prepend=0.0) > 0
    noise = rng.standard_normal(samples) * 0.1
    return np.where(contour_hz > 0, pulses.astype(np.float64), noise)


def _mean_pitch(pitch_hz: npt.NDArray[np.float64]) -> float:
    voiced = pitch_hz[pitch_hz > 0]
    return float(np.exp(np.log(voiced).mean())) if voiced.size else 1.0


def _analyze(speech: Waveform, rate_hz: int) -> tuple[Any, tuple[npt.NDArray[np.float64], ...]]:
    """pyworld, and pitch (frames,), envelope and aperiodicity (frames, bins) every 5 ms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyworld imports pkg_resources, which says that it ages
        import pyworld  # noqa: PLC0415

    samples = speech.astype(np.float64)
    rough_hz, time_s = pyworld.dio(samples, rate_hz)
    pitch_hz = pyworld.stonemask(samples, rough_hz, time_s, rate_hz)
    envelope = pyworld.cheaptrick(samples, pitch_hz, time_s, rate_hz)
    aperiodicity = pyworld.d4c(samples, pitch_hz, time_s, rate_hz)
    return pyworld, (pitch_hz, envelope, aperiodicity)
