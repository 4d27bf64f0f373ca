"""Plausibility: check that raw bytes have the encoding that they are declared to have.

Sound is smooth: decoded correctly, it changes least from sample to sample, relative to its power;
decoded with another law, byte order or alignment it is closer to noise. Rates of detection
and of false alarms, measured on real speech, are in docs/integrate/audio.md.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from service.audio import g711

Floats = NDArray[np.float32]
Reading = Callable[[bytes], Floats]

_BLOCK_BYTES = 8_192
_MOST_BYTES = 20 * _BLOCK_BYTES
_FRAME_SAMPLES = 256
_SMOOTHER = 1.6
_LEAST_POWER = 1e-7  # -70 dBFS
_LINEAR16, _MULAW, _ALAW = "LINEAR16", "MULAW", "ALAW"


def _make_linear_reader(order: str, start: int = 0) -> Reading:
    def read(data: bytes) -> Floats:
        data = data[start:]
        samples = np.frombuffer(data[: len(data) - len(data) % 2], f"{order}i2")
        return samples.astype(np.float32) / np.float32(32_768)

    return read


_READINGS: Mapping[str, Reading] = {
    _LINEAR16: _make_linear_reader("<"),
    "LINEAR16 with the high byte first": _make_linear_reader(">"),
    "LINEAR16 that begins half way into a sample": _make_linear_reader("<", 1),
    _MULAW: g711.decode_mulaw,
    _ALAW: g711.decode_alaw,
}


class Plausibility:
    """Decodes up to the first 160 KiB of a raw stream in every way.

    `verdict` says what encoding the bytes look like if it is not the declared one.
    """

    def __init__(self, encoding: str, channels: int, channel: int) -> None:
        self.verdict = ""
        self._encoding = encoding
        self._channels = slice(channel, None, channels)
        self._block = bytearray()
        self._read_bytes = 0
        self._sums = {name: np.zeros(3) for name in _READINGS}  # steps', samples' squares; count

    def push(self, data: bytes) -> None:
        """Take the next bytes: whole frames, except at the end of the stream."""
        if self._read_bytes >= _MOST_BYTES:
            return
        self._block += data[:_MOST_BYTES]
        while len(self._block) >= _BLOCK_BYTES and self._read_bytes < _MOST_BYTES:
            block = bytes(self._block[:_BLOCK_BYTES])
            del self._block[:_BLOCK_BYTES]
            self._read_bytes += _BLOCK_BYTES
            for name, read in _READINGS.items():
                self._sums[name] += _measure_steps(read(block)[self._channels])
            self.verdict = self._judge()

    def _judge(self) -> str:
        steps, power, count = self._sums[self._encoding]
        if power <= _LEAST_POWER * count:
            return ""
        roughness = {name: sums[0] / sums[1] for name, sums in self._sums.items() if sums[1] > 0}
        smoothest = min(roughness, key=lambda name: roughness[name])
        if steps / power < _SMOOTHER * roughness[smoothest]:
            return ""
        return f"as {self._encoding} it is noise, and it looks like {smoothest}"


def _measure_steps(samples: Floats) -> NDArray[np.float64]:
    """Return the sums of the squares of steps and of samples, both without the mean of their
    frame, and the count of samples."""
    whole = len(samples) - len(samples) % _FRAME_SAMPLES
    frames = samples[:whole].reshape(-1, _FRAME_SAMPLES)
    frames = frames - frames.mean(axis=1, keepdims=True)
    return np.array([np.square(np.diff(frames)).sum(), np.square(frames).sum(), frames.size])
