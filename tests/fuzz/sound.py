"""Made audio in every container and codec that is taken: what hostile files are made from."""

import io
from collections.abc import Iterator

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.support import webm

Samples = NDArray[np.float32]

_WAV = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")


def made(seconds: float, rate: int, channels: int = 1) -> Samples:
    """A tone that grows and a little noise: `(samples,)`, or `(samples, channels)` for more."""
    count = int(seconds * rate)
    time_s = np.arange(count) / rate
    tone = np.sin(2 * np.pi * 330 * time_s) * np.linspace(0.1, 0.6, count)
    noise = np.random.default_rng(count).normal(0, 0.02, (count, channels))
    samples = (tone[:, None] + noise).astype(np.float32)
    return samples[:, 0] if channels == 1 else samples


def encoded(samples: Samples, rate: int, kind: str, subtype: str, *, endian: str = "FILE") -> bytes:
    """`samples` as a file of libsndfile's `kind` and `subtype`."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype, endian=endian)
    return file.getvalue()


def wav_files() -> Iterator[bytes]:
    for subtype in _WAV:
        yield encoded(made(0.03, 8_000, 2), 8_000, "WAV", subtype)
    yield encoded(made(0.05, 16_000), 16_000, "WAVEX", "PCM_16")
    yield encoded(made(0.05, 16_000), 16_000, "RF64", "PCM_16")
    yield encoded(made(0.05, 16_000), 16_000, "WAV", "PCM_16", endian="BIG")
    yield encoded(made(0.03, 44_100), 44_100, "WAV", "FLOAT")
    whole = encoded(made(0.03, 16_000), 16_000, "WAV", "PCM_16")
    for announced in (0, 1_000, 0xFFFF_FFFF):  # as pipes and recorders write it
        yield whole[:40] + announced.to_bytes(4, "little") + whole[44:]
    yield whole + b"LIST\x04\0\0\0INFO"


def flac_files() -> Iterator[bytes]:
    yield encoded(made(0.1, 16_000), 16_000, "FLAC", "PCM_16")
    yield encoded(made(0.02, 44_100, 2), 44_100, "FLAC", "PCM_24")
    yield encoded(made(0.05, 8_000, 2), 8_000, "FLAC", "PCM_S8")
    yield encoded(np.zeros(24_000, np.float32), 48_000, "FLAC", "PCM_16")


def mp3_files() -> Iterator[bytes]:
    yield encoded(made(0.3, 16_000), 16_000, "MP3", "MPEG_LAYER_III")
    yield encoded(made(0.2, 44_100, 2), 44_100, "MP3", "MPEG_LAYER_III")
    yield b"ID3\x04\0\0\0\0\0\x0aTIT2\0\0\0\0\0\0" + encoded(
        made(0.2, 8_000), 8_000, "MP3", "MPEG_LAYER_III"
    )


def ogg_files() -> Iterator[bytes]:
    yield encoded(made(0.2, 16_000), 16_000, "OGG", "OPUS")
    yield encoded(made(0.1, 48_000, 2), 48_000, "OGG", "OPUS")
    yield encoded(made(0.1, 8_000), 8_000, "OGG", "VORBIS")
    yield encoded(made(0.1, 16_000, 2), 16_000, "OGG", "VORBIS")
    yield chained(encoded(made(0.1, 16_000), 16_000, "OGG", "OPUS"), 3)


def webm_files() -> Iterator[bytes]:
    yield webm.convert(encoded(made(0.2, 16_000), 16_000, "OGG", "OPUS"))
    yield webm.convert(encoded(made(0.1, 48_000, 2), 48_000, "OGG", "OPUS"))


def chained(ogg: bytes, times: int) -> bytes:
    """An Ogg file whose stream is followed by others like it (RFC 3533, section 4)."""
    return ogg * times
