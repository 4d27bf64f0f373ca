"""A recording's samples: what training and inspection hear in a file is read here alone."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile

from training.errors import AudioError

REAL = frozenset({"FLOAT", "DOUBLE"})
FULL_SCALE, LOUDEST = 32768.0, 32767
UNREADABLE, EMPTY = "cannot be read", "is empty"
SILENT, NOT_FINITE = "is silent: every sample is the same", "has samples that are no finite numbers"
RIFF_HEADER, CHUNK_HEADER = struct.Struct("<4s4x4s"), struct.Struct("<4sI")
UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # a recorder that cannot seek back leaves one of these


@dataclass(frozen=True, slots=True)
class Recording:
    """`samples` (frames, channels) int16; `cut_short` if the file has less than it announces."""

    samples: npt.NDArray[np.int16]
    rate_hz: int
    cut_short: bool = False


def read(path: Path) -> Recording:
    """Decode a file; raises AudioError if it is missing, broken, empty, silent or not finite."""
    try:
        with soundfile.SoundFile(path) as file:
            samples, rate_hz = _samples(file, path), int(file.samplerate)
            cut_short = file.format == "FLAC" and len(samples) < file.frames
        cut_short = cut_short or wav_is_cut_short(path)
    except (OSError, RuntimeError) as error:
        raise AudioError(path, f"{UNREADABLE}: {error}") from error
    if not samples.size:
        raise AudioError(path, EMPTY)
    if (samples == samples[0]).all():
        raise AudioError(path, SILENT)
    return Recording(samples, rate_hz, cut_short)


def _samples(file: soundfile.SoundFile, path: Path) -> npt.NDArray[np.int16]:
    """Read int16 samples, scaling real ones.

    libsndfile would cast real samples to integers without scaling them, turning speech into
    silence.
    """
    if file.subtype not in REAL:
        whole: npt.NDArray[np.int16] = file.read(dtype="int16", always_2d=True)
        return whole
    real: npt.NDArray[np.float64] = file.read(dtype="float64", always_2d=True)
    if not np.isfinite(real).all():
        raise AudioError(path, NOT_FINITE)
    scaled = np.clip(np.rint(real * FULL_SCALE), -FULL_SCALE, LOUDEST)
    return np.asarray(scaled, np.int16)


def wav_is_cut_short(path: Path) -> bool:
    """Whether a WAV file ends before its data do; libsndfile reads such a file without complaint.

    False for other formats, and for headers that leave the length open.
    """
    with path.open("rb") as file:
        header = file.read(RIFF_HEADER.size)
        if len(header) < RIFF_HEADER.size or RIFF_HEADER.unpack(header) != (b"RIFF", b"WAVE"):
            return False
        size = _data_size(file)
        if size is None or size in UNKNOWN_SIZES:
            return False
        return path.stat().st_size < file.tell() + size


def _data_size(file: BinaryIO) -> int | None:
    """The size that the header gives its data, leaving the file at their start; None if it has
    none."""
    while len(header := file.read(CHUNK_HEADER.size)) == CHUNK_HEADER.size:
        name, size = CHUNK_HEADER.unpack(header)
        if name == b"data":
            return int(size)
        file.seek(size + size % 2, 1)  # chunks are padded to an even length
    return None
