"""Speech codecs: audio as it is after a call, (n,) float32 in and out at the same rate.

G.711 is computed here, GSM and MP3 by libsndfile and Opus by libopus, all in this process. AMR
needs an ffmpeg with the encoder, and a process for each clip.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from evaluation.degrade import opus
from evaluation.errors import EvaluationError
from service.audio.codecs import Mulaw
from service.audio.decoding import AudioFormat, decode

Samples = NDArray[np.float32]
Codec = Callable[[Samples, int, np.random.Generator], Samples]

TELEPHONE_HZ = 8_000
OPUS_BITS_S = 12_000
MP3_HZ = 16_000
MP3_LEVEL = 0.95  # libsndfile's compression level that makes 16 kb/s at 16 kHz
MP3_DELAY = 1105  # samples that LAME's encoder and its decoder take together
LOSS_ENTER, LOSS_STAY = 0.03, 0.4
LOSS_FRAME_S = 0.02
LOSS_FADE = 0.6


def list_available() -> tuple[str, ...]:
    """List the codecs that can be used here."""
    return tuple(name for name in _CODECS if name not in _NEEDS or _NEEDS[name]())


def apply(name: str, samples: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """`samples` (n,) after the codec `name`; EvaluationError when it cannot be used here."""
    if name not in list_available():
        raise EvaluationError(
            f"codec {name!r} is not available here ({', '.join(list_available())} are);"
            " Opus needs libopus (the Debian package libopus0), AMR an ffmpeg with its encoder"
        )
    return match_length(samples, _CODECS[name](samples, rate, rng))


def match_length(samples: Samples, coded: Samples) -> Samples:
    """`coded` cut, or filled with silence, to the length of `samples`."""
    missing = max(len(samples) - len(coded), 0)
    return np.pad(coded[: len(samples)], (0, missing)).astype(np.float32)


def mu_law(samples: Samples, rate: int, _: np.random.Generator) -> Samples:
    """ITU-T G.711 mu-law at 8 kHz, each sample its nearest code."""
    values = _mu_law_values()
    narrow = soxr.resample(samples, rate, TELEPHONE_HZ)
    nearest = values[np.searchsorted((values[1:] + values[:-1]) / 2, narrow)]
    wide: Samples = soxr.resample(nearest, TELEPHONE_HZ, rate)
    return wide


@cache
def _mu_law_values() -> Samples:
    codes, telephone = bytes(range(256)), AudioFormat(Mulaw, TELEPHONE_HZ)
    return np.unique(decode(codes, telephone, rate=TELEPHONE_HZ, max_s=1.0))


def gsm(samples: Samples, rate: int, _: np.random.Generator) -> Samples:
    """GSM 06.10 full rate at 8 kHz."""
    narrow = np.clip(soxr.resample(samples, rate, TELEPHONE_HZ), -1, 1)
    coded, form = io.BytesIO(), {"format": "RAW", "subtype": "GSM610"}
    soundfile.write(coded, narrow, TELEPHONE_HZ, **form)
    coded.seek(0)
    decoded, _rate = soundfile.read(
        coded, samplerate=TELEPHONE_HZ, channels=1, dtype="float32", **form
    )
    wide: Samples = soxr.resample(decoded, TELEPHONE_HZ, rate)
    return wide


def mp3(samples: Samples, rate: int, _: np.random.Generator) -> Samples:
    """MP3 at 16 kHz and a constant 16 kb/s, without its delay."""
    narrow = np.clip(soxr.resample(samples, rate, MP3_HZ), -1, 1)
    coded, form = io.BytesIO(), {"format": "MP3", "subtype": "MPEG_LAYER_III"}
    soundfile.write(
        coded, narrow, MP3_HZ, bitrate_mode="CONSTANT", compression_level=MP3_LEVEL, **form
    )
    coded.seek(0)
    decoded, _rate = soundfile.read(coded, dtype="float32")
    wide: Samples = soxr.resample(decoded[MP3_DELAY:], MP3_HZ, rate)
    return wide


def opus_with_losses(samples: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """Opus at 12 kb/s, as on a call, with lost packets."""
    decoded = opus.transcode(samples, rate, bits_s=OPUS_BITS_S)
    return lose_packets(decoded, rate, rng)


def lose_packets(samples: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """Lose about 5% of the 20 ms packets, in bursts; the packet before conceals each, fading."""
    size = int(LOSS_FRAME_S * rate)
    received = samples.copy()
    lost = False
    for start in range(size, len(samples) - size, size):
        lost = bool(rng.random() < (LOSS_STAY if lost else LOSS_ENTER))
        if lost:
            received[start : start + size] = LOSS_FADE * received[start - size : start]
    return received


def amr(samples: Samples, rate: int, _: np.random.Generator) -> Samples:
    """AMR-NB at 8 kHz and 12.2 kb/s."""
    raw = ("-f", "f32le", "-ar", str(rate), "-ac", "1")
    encode = ("-c:a", _AMR_ENCODER, "-ar", str(TELEPHONE_HZ), "-b:a", "12.2k", "-f", "amr")
    coded = _ffmpeg((*raw, "-i", "pipe:0", *encode), samples.tobytes())
    return np.frombuffer(_ffmpeg(("-f", "amr", "-i", "pipe:0", *raw), coded), np.float32)


def _ffmpeg(arguments: tuple[str, ...], data: bytes) -> bytes:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", *arguments, "pipe:1"]
    process = subprocess.run(command, input=data, capture_output=True, check=False)  # noqa: S603
    if process.returncode:
        raise EvaluationError(f"ffmpeg failed: {process.stderr.decode(errors='replace').strip()}")
    return process.stdout


@cache
def _ffmpeg_has_amr() -> bool:
    if shutil.which("ffmpeg") is None:
        return False
    listed = subprocess.run(
        ["ffmpeg", "-hide_banner", "-encoders"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return _AMR_ENCODER in listed.stdout


def _keep(samples: Samples, _rate: int, _rng: np.random.Generator) -> Samples:
    return samples


_AMR_ENCODER = "libopencore_amrnb"
_CODECS: Mapping[str, Codec] = {
    "none": _keep,
    "mulaw": mu_law,
    "gsm": gsm,
    "amr": amr,
    "mp3": mp3,
    "opus": opus_with_losses,
}
_NEEDS: Mapping[str, Callable[[], bool]] = {"amr": _ffmpeg_has_amr, "opus": opus.is_available}
