"""Opus through the system's libopus, with a call's settings and no container."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_int32, c_void_p
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError

Samples = NDArray[np.float32]

RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
FRAME_S = 0.02
COMPLEXITY = 5
_LIBRARY = "libopus.so.0"
_VOIP = 2048  # OPUS_APPLICATION_VOIP and the requests of opus_defines.h
_SET_BITRATE, _SET_COMPLEXITY, _GET_LOOKAHEAD = 4002, 4010, 4027
_PACKET_BYTES = 1500


def is_available() -> bool:
    """Whether the library is installed."""
    return _library() is not None


def transcode(samples: Samples, rate: int, *, bits_s: int) -> Samples:
    """Encode `samples` (n,) in -1..1 in 20 ms frames of Opus for speech, and decode them again.

    The codec's delay is removed. EvaluationError at a rate that Opus does not have.
    """
    if rate not in RATES_HZ:
        raise EvaluationError(f"Opus has no {rate} Hz; it has {', '.join(map(str, RATES_HZ))}")
    with _encoder(rate, bits_s) as (encode, delay), _decoder(rate) as decode:
        size = int(FRAME_S * rate)
        frames = -(-(len(samples) + delay) // size)
        whole = np.zeros(frames * size, np.float32)
        whole[: len(samples)] = samples
        frames_out = [decode(encode(frame)) for frame in whole.reshape(-1, size)]
    return np.concatenate(frames_out)[delay : delay + len(samples)]


@contextmanager
def _encoder(rate: int, bits_s: int) -> Iterator[tuple[Any, int]]:
    library, error, delay = _require_library(), c_int(), c_int32()
    state = c_void_p(library.opus_encoder_create(rate, 1, _VOIP, byref(error)))
    _check(error.value)
    packet = ctypes.create_string_buffer(_PACKET_BYTES)
    _check(library.opus_encoder_ctl(state, _SET_BITRATE, c_int32(bits_s)))
    _check(library.opus_encoder_ctl(state, _SET_COMPLEXITY, c_int32(COMPLEXITY)))
    _check(library.opus_encoder_ctl(state, _GET_LOOKAHEAD, byref(delay)))

    def encode(frame: Samples) -> bytes:
        size = library.opus_encode_float(state, _floats(frame), len(frame), packet, _PACKET_BYTES)
        _check(size)
        return packet.raw[:size]

    try:
        yield encode, delay.value
    finally:
        library.opus_encoder_destroy(state)


@contextmanager
def _decoder(rate: int) -> Iterator[Any]:
    library, error = _require_library(), c_int()
    state = c_void_p(library.opus_decoder_create(rate, 1, byref(error)))
    _check(error.value)

    def decode(packet: bytes) -> Samples:
        decoded = np.empty(int(FRAME_S * rate), np.float32)
        _check(
            library.opus_decode_float(state, packet, len(packet), _floats(decoded), len(decoded), 0)
        )
        return decoded

    try:
        yield decode
    finally:
        library.opus_decoder_destroy(state)


def _floats(samples: Samples) -> Any:
    return samples.ctypes.data_as(POINTER(c_float))


def _check(code: int) -> None:
    if code < 0:
        raise EvaluationError(f"libopus failed: {_require_library().opus_strerror(code).decode()}")


def _require_library() -> ctypes.CDLL:
    library = _library()
    if library is None:
        raise EvaluationError(f"{_LIBRARY} is not installed; the Debian package is libopus0")
    return library


@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    library.opus_encoder_create.restype = library.opus_decoder_create.restype = c_void_p
    library.opus_strerror.restype = c_char_p
    return library
