"""WAV: read frames of float32 samples, piece by piece.

    RIFF | WAVE | fmt ... | ... | data ............................. | LIST ...
                   header         samples, whatever length is announced   ignored

The announced length is often wrong: recorders and pipes write 0, the greatest number, what it was
when they opened the file, or some bytes too many. So samples go on to the last byte, unless the
announced length is followed by what looks like another chunk.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.audio import containers, g711
from service.errors import AudioError

Frames = NDArray[np.float32]
_Decode = Callable[[bytes, str], Frames]

_CHUNK_BYTES = 8
_RIFF_BYTES = 12
_MAX_HEADER_BYTES = 1 << 20
_LENGTH_UNKNOWN = 0x7FFF_0000  # programs that write to a pipe announce this or more
_FORMAT_BYTES = 16
_EXTENSIBLE, _EXTENSIBLE_BYTES, _SUBFORMAT_AT = 0xFFFE, 40, 24
_PCM, _FLOAT, _ALAW, _MULAW = 1, 3, 6, 7
_CODECS = {
    0x0002: "MS ADPCM",
    0x0011: "IMA ADPCM",
    0x0014: "G.723 ADPCM",
    0x0031: "GSM 6.10",
    0x0040: "G.721 ADPCM",
    0x0042: "G.723.1",
    0x0045: "G.726",
    0x0050: "MPEG",
    0x0055: "MP3",
    0x0057: "AMR",
    0x0064: "G.726",
    0x0065: "G.722",
    0x0083: "G.729",
    0x00FF: "AAC",
    0x0161: "WMA",
    0x028F: "G.722",
    0x1600: "AAC",
    0x1602: "AAC",
    0x1610: "AAC",
    0xA106: "AAC",
    0xA112: "G.726",
}


@dataclass(frozen=True, slots=True)
class WavFormat:
    """The format in the header; `code` is Microsoft's number for the codec."""

    code: int
    channels: int
    sample_rate: int
    bits: int
    big_endian: bool

    @property
    def frame_bytes(self) -> int:
        return max(1, self.channels) * self.bits // 8

    def decode(self, data: bytes) -> Frames:
        """Return the samples `(n,)` of whole frames."""
        return _DECODERS[self.code, self.bits](data, ">" if self.big_endian else "<")


class WavReader:
    """Reads one file; any chunking of the bytes gives the same frames. After an `AudioError` it is
    of no further use."""

    def __init__(self) -> None:
        self.format: WavFormat | None = None
        self._header = bytearray()
        self._in_samples = self._ended = False
        self._announced_bytes: int | None = None  # of samples to come; None if unknown
        self._undecided = b""  # what follows the announced samples, while it is too short
        self._part = b""  # of a frame

    def push(self, data: bytes) -> Frames:
        """Return the `(frames, channels)` that `data` completes, if any; raises `AudioError`."""
        if not self._in_samples:
            self._header += data
            if not self._read_header():
                return np.zeros((0, 1), np.float32)
            data, self._header = bytes(self._header), bytearray()
        return self._decode_frames(self._take_samples(data))

    def finish(self) -> None:
        """Raise `AudioError` if the file ended before its samples; part of a frame is dropped."""
        if not self._in_samples:
            raise AudioError("the WAV file ends before its samples; send the whole file")

    def _read_header(self) -> bool:
        """Parse chunks; return whether the samples begin, and then drop what is before them."""
        order = ">" if self._header[:4] == b"RIFX" else "<"
        at, long_size = _RIFF_BYTES, 0
        while at + _CHUNK_BYTES <= len(self._header):
            name, size = struct.unpack_from(f"{order}4sI", self._header, at)
            body = at + _CHUNK_BYTES
            if name == b"data":
                self._begin_samples(size if size < _LENGTH_UNKNOWN else long_size)
                del self._header[:body]
                return True
            at = body + size + size % 2
            if at > _MAX_HEADER_BYTES:
                raise AudioError("the WAV file has no samples in its first megabyte")
            if len(self._header) < at:
                return False
            if name == b"fmt ":
                self.format = _parse_format(bytes(self._header[body:at]), order)
            if name == b"ds64":
                long_size = int.from_bytes(self._header[body + 8 : body + 16], "little")
        return False

    def _begin_samples(self, announced: int) -> None:
        if self.format is None:
            raise AudioError("the WAV file says nothing of its samples; it has no fmt chunk")
        self._announced_bytes = announced or None
        self._in_samples = True

    def _take_samples(self, data: bytes) -> bytes:
        """Return the bytes of `data` that belong to samples."""
        if self._ended:
            return b""
        data, self._undecided = self._undecided + data, b""
        if self._announced_bytes is None:
            return data
        samples, rest = data[: self._announced_bytes], data[self._announced_bytes :]
        self._announced_bytes -= len(samples)
        if len(rest) <= _CHUNK_BYTES:
            self._undecided = rest
            return samples
        self._announced_bytes = None
        self._ended = _is_chunk(rest[:4]) or _is_chunk(rest[1:5])  # odd lengths are padded
        return samples if self._ended else data

    def _decode_frames(self, data: bytes) -> Frames:
        assert self.format is not None, "there is a header before there are samples"
        data = self._part + data
        end = len(data) - len(data) % self.format.frame_bytes
        self._part = data[end:]
        return self.format.decode(data[:end]).reshape(-1, self.format.channels)


def _is_chunk(name: bytes) -> bool:
    return name.isascii() and name.replace(b" ", b"").replace(b"_", b"").isalnum()


def _parse_format(chunk: bytes, order: str) -> WavFormat:
    if len(chunk) < _FORMAT_BYTES:
        raise AudioError("the WAV file's header is damaged; send the file as it was recorded")
    code, channels, rate, _, _, bits = struct.unpack_from(f"{order}HHIIHH", chunk)
    if code == _EXTENSIBLE and len(chunk) >= _EXTENSIBLE_BYTES:
        (code,) = struct.unpack_from(f"{order}H", chunk, _SUBFORMAT_AT)
    if not channels:
        raise AudioError("the WAV file announces no channel; send the file as it was recorded")
    bits = 8 if code in (_ALAW, _MULAW) else bits
    if (code, bits) not in _DECODERS:
        codec = _CODECS.get(code, f"codec 0x{code:04X} of {bits} bits")
        raise AudioError(f"the audio is {codec} in WAV, which is not read; {containers.advise()}")
    return WavFormat(code, channels, rate, bits, order == ">")


def _decode_unsigned8(data: bytes, _: str) -> Frames:
    return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)


def _decode_signed24(data: bytes, order: str) -> Frames:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, slice(0, 3) if order == ">" else slice(1, 4)] = np.frombuffer(data, np.uint8).reshape(
        -1, 3
    )
    return _signed_decoder(4)(wide.tobytes(), order)


def _signed_decoder(width: int) -> _Decode:
    scale = np.float32(1 << (8 * width - 1))

    def decode(data: bytes, order: str) -> Frames:
        return np.frombuffer(data, f"{order}i{width}").astype(np.float32) / scale

    return decode


def _float_decoder(width: int) -> _Decode:
    def decode(data: bytes, order: str) -> Frames:
        with np.errstate(over="ignore"):  # a double beyond float32 is infinite, and refused as such
            return np.frombuffer(data, f"{order}f{width}").astype(np.float32)

    return decode


_DECODERS: Mapping[tuple[int, int], _Decode] = {
    (_PCM, 8): _decode_unsigned8,
    (_PCM, 16): _signed_decoder(2),
    (_PCM, 24): _decode_signed24,
    (_PCM, 32): _signed_decoder(4),
    (_FLOAT, 32): _float_decoder(4),
    (_FLOAT, 64): _float_decoder(8),
    (_ALAW, 8): lambda data, _: g711.decode_alaw(data),
    (_MULAW, 8): lambda data, _: g711.decode_mulaw(data),
}
