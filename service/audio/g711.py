"""ITU-T G.711: codes to samples."""

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def decode_mulaw(data: bytes) -> Samples:
    return _MULAW[np.frombuffer(data, np.uint8)]


def decode_alaw(data: bytes) -> Samples:
    return _ALAW[np.frombuffer(data, np.uint8)]


def _make_mulaw_table() -> Samples:
    """Make the sample of each code, `(256,)`, full scale 1 (ITU-T G.711, table 2)."""
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return _to_floats(magnitude, negative=code & 0x80 != 0)


def _make_alaw_table() -> Samples:
    """Make the sample of each code, `(256,)`, full scale 1 (ITU-T G.711, table 1)."""
    code = np.arange(256) ^ 0x55
    exponent = code >> 4 & 7
    step = ((code & 0x0F) << 4) + 8
    magnitude = np.where(exponent == 0, step, (step + 0x100) << np.maximum(exponent - 1, 0))
    return _to_floats(magnitude, negative=code & 0x80 == 0)


def _to_floats(magnitude: NDArray[np.int64], *, negative: NDArray[np.bool_]) -> Samples:
    return (np.where(negative, -magnitude, magnitude) / 32_768).astype(np.float32)


_MULAW = _make_mulaw_table()
_ALAW = _make_alaw_table()
