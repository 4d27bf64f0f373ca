"""Recordings as a telephone line carries them."""

import io
from collections.abc import Iterator
from pathlib import Path

import soundfile

FRAME_BYTES = 160  # 20 ms of mu-law at 8 kHz


def read_mulaw(*paths: Path) -> bytes:
    """Recordings one after another, mu-law at 8 kHz."""
    return _read(paths, "ULAW")


def read_alaw(*paths: Path) -> bytes:
    return _read(paths, "ALAW")


def read_pcm(*paths: Path) -> bytes:
    """The same as 16-bit samples, little-endian, at 8 kHz."""
    return _read(paths, "PCM_16")


def split(audio: bytes, size: int = FRAME_BYTES) -> Iterator[bytes]:
    return (audio[at : at + size] for at in range(0, len(audio), size))


def _read(paths: tuple[Path, ...], subtype: str) -> bytes:
    made = io.BytesIO()
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32")
        soundfile.write(
            made, samples[:: rate // 8000], 8000, format="RAW", subtype=subtype, endian="LITTLE"
        )
    return made.getvalue()
