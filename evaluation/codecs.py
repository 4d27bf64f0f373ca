"""Speech codecs: what audio sounds like after a call, (n,) float32 in and out at the same rate.

G.711 is computed here; GSM, AMR and Opus go through ffmpeg, where it has their encoders.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import cache, partial

import numpy as np
import soxr
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from service.audio import AudioFormat, Encoding, decode

Samples = NDArray[np.float32]
Codec = Callable[[Samples, int, np.random.Generator], Samples]

TELEPHONE_HZ = 8_000
LOSS_ENTER, LOSS_STAY = 0.03, 0.4
LOSS_FRAME_S = 0.02
LOSS_FADE = 0.6


def available() -> tuple[str, ...]:
    """The names of the codecs that can be used here."""
    return tuple(name for name, needs in _ENCODERS.items() if not needs or needs in _encoders())


def apply(name: str, samples: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """`samples` (n,) after the codec `name`; EvaluationError when it cannot be used here."""
    if name not in available():
        raise EvaluationError(
            f"codec {name!r} is not available here ({', '.join(available())} are);"
            " GSM, AMR and Opus need an ffmpeg with their encoders"
        )
    return as_long_as(samples, _CODECS[name](samples, rate, rng))


def as_long_as(samples: Samples, heard: Samples) -> Samples:
    """`heard` cut, or filled with silence, to the length of `samples`."""
    missing = max(len(samples) - len(heard), 0)
    return np.pad(heard[: len(samples)], (0, missing)).astype(np.float32)


def mu_law(samples: Samples, rate: int, _: np.random.Generator) -> Samples:
    """8 kHz and the nearest code of ITU-T G.711 mu-law."""
    table = decode(
        bytes(range(256)),
        AudioFormat(Encoding.MULAW, TELEPHONE_HZ),
        rate=TELEPHONE_HZ,
        max_s=1.0,
    )
    values = np.unique(table)
    narrow = soxr.resample(samples, rate, TELEPHONE_HZ)
    nearest = values[np.searchsorted((values[1:] + values[:-1]) / 2, narrow)]
    wide: Samples = soxr.resample(nearest, TELEPHONE_HZ, rate)
    return wide


def lossy(samples: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """About 5% of 20 ms packets lost in bursts, each concealed by the one before, fading."""
    size = int(LOSS_FRAME_S * rate)
    heard = samples.copy()
    lost = False
    for start in range(size, len(samples) - size, size):
        lost = bool(rng.random() < (LOSS_STAY if lost else LOSS_ENTER))
        if lost:
            heard[start : start + size] = LOSS_FADE * heard[start - size : start]
    return heard


def _through_ffmpeg(
    samples: Samples,
    rate: int,
    _: np.random.Generator,
    *,
    encode: tuple[str, ...],
    container: str,
) -> Samples:
    raw = ("-f", "f32le", "-ar", str(rate), "-ac", "1")
    coded = _ffmpeg((*raw, "-i", "pipe:0", *encode, "-f", container), samples.tobytes())
    plain = _ffmpeg(("-f", container, "-i", "pipe:0", *raw), coded)
    return np.frombuffer(plain, np.float32)


def _opus(samples: Samples, rate: int, rng: np.random.Generator) -> Samples:
    encode = ("-c:a", "libopus", "-b:a", "12k", "-application", "voip", "-frame_duration", "20")
    heard = _through_ffmpeg(samples, rate, rng, encode=encode, container="ogg")
    return lossy(heard, rate, rng)


def _ffmpeg(arguments: tuple[str, ...], data: bytes) -> bytes:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", *arguments, "pipe:1"]
    done = subprocess.run(command, input=data, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise EvaluationError(f"ffmpeg failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


@cache
def _encoders() -> frozenset[str]:
    if shutil.which("ffmpeg") is None:
        return frozenset()
    listed = subprocess.run(
        ["ffmpeg", "-hide_banner", "-encoders"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return frozenset(words[1] for line in listed.stdout.splitlines() if (words := line.split())[1:])


def _none(samples: Samples, _rate: int, _rng: np.random.Generator) -> Samples:
    return samples


_CODECS: Mapping[str, Codec] = {
    "none": _none,
    "mulaw": mu_law,
    "gsm": partial(_through_ffmpeg, encode=("-c:a", "libgsm", "-ar", "8000"), container="gsm"),
    "amr": partial(
        _through_ffmpeg,
        encode=("-c:a", "libopencore_amrnb", "-ar", "8000", "-b:a", "12.2k"),
        container="amr",
    ),
    "opus": _opus,
}
_ENCODERS: Mapping[str, str] = {
    "none": "",
    "mulaw": "",
    "gsm": "libgsm",
    "amr": "libopencore_amrnb",
    "opus": "libopus",
}
