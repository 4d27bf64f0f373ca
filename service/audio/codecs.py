"""Codecs: raw audio, which has no header, from bytes to samples.

A codec is a class whose instance decodes one stream and holds its state. To add one, write the
class, list it in `CODECS`, and add its name to the enum `AudioEncoding` in audio.proto: the server,
the client, the command line and the manifest take their names from there.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from service.audio import g711
from service.audio.plausibility import Plausibility
from service.errors import AudioError

Samples = NDArray[np.float32]

_G722_RATE = 16_000


class Codec(ABC):
    """One stream in one encoding; any chunking of its bytes gives the same samples.

    `sample_rate` in hertz and `channels` are those of the samples, `bytes_per_s` is the rate of the
    bytes. A codec whose messages are packets has a rate of 0, and decodes one message at a time.
    """

    name: ClassVar[str]
    """As in the API, where it is `AUDIO_ENCODING_` and this."""

    sample_rate: int
    channels: int
    bytes_per_s: float

    @abstractmethod
    def __init__(self, sample_rate: int, channels: int, channel: int) -> None:
        """Take the caller's declaration; `channel`, from 0, is the speaker's."""

    @property
    def verdict(self) -> str:
        """The encoding that the audio looks like if it is not the declared one, else empty."""
        return ""

    @abstractmethod
    def decode(self, data: bytes) -> Samples:
        """Return the samples `(frames, channels)` that `data` completes, full scale 1."""


class _Pcm(Codec):
    """Interleaved samples of a fixed width; part of a frame at the end of the stream is dropped."""

    sample_bytes: ClassVar[int]

    def __init__(self, sample_rate: int, channels: int, channel: int) -> None:
        self.sample_rate = sample_rate
        self.channels = channels
        self._frame_bytes = channels * self.sample_bytes
        self.bytes_per_s = sample_rate * self._frame_bytes
        self._plausibility = Plausibility(self.name, channels, channel)
        self._part = b""  # of a frame

    @property
    def verdict(self) -> str:
        return self._plausibility.verdict

    def decode(self, data: bytes) -> Samples:
        data = self._part + data
        end = len(data) - len(data) % self._frame_bytes
        self._part = data[end:]
        self._plausibility.push(data[:end])
        return self._convert(data[:end]).reshape(-1, self.channels)

    @staticmethod
    @abstractmethod
    def _convert(data: bytes) -> Samples:
        """Convert the bytes of whole frames to samples `(n,)`."""


class Linear16(_Pcm):
    """Signed 16-bit little-endian samples."""

    name = "LINEAR16"
    sample_bytes = 2

    @staticmethod
    def _convert(data: bytes) -> Samples:
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32_768)


class Mulaw(_Pcm):
    """ITU-T G.711 mu-law."""

    name = "MULAW"
    sample_bytes = 1
    _convert = staticmethod(g711.decode_mulaw)


class Alaw(_Pcm):
    """ITU-T G.711 A-law."""

    name = "ALAW"
    sample_bytes = 1
    _convert = staticmethod(g711.decode_alaw)


class G722(Codec):
    """ITU-T G.722 at 64 kbit/s: sub-band ADPCM of 16 kHz audio, whatever clock RTP says it has."""

    name = "G722"

    def __init__(self, sample_rate: int, channels: int, channel: int) -> None:
        if sample_rate != _G722_RATE:
            raise AudioError(
                f"G.722 decodes to {_G722_RATE} Hz, although RTP gives its clock as 8000; say so",
                field="audio_config.sample_rate_hertz",
            )
        if channels != 1:
            raise AudioError("G.722 has one channel", field="audio_config.channels")
        if find_spec("G722") is None:
            raise AudioError(
                "this server does not decode G.722: send LINEAR16, or have its operator run "
                "pip install sayso[g722]",
                field="audio_config.encoding",
            )
        from G722 import G722 as Decoder  # noqa: PLC0415 - an extra

        self.sample_rate, self.channels = sample_rate, channels
        self.bytes_per_s = _G722_RATE / 2
        self._decoder = Decoder(sample_rate, 64_000)

    def decode(self, data: bytes) -> Samples:
        samples = np.frombuffer(self._decoder.decode(data), np.int16)
        return (samples.astype(np.float32) / np.float32(32_768)).reshape(-1, 1)


CODECS: Mapping[str, type[Codec]] = {codec.name: codec for codec in (Linear16, Mulaw, Alaw, G722)}
