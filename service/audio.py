"""Audio: the bytes of a request to float32 mono samples at the contract's rate.

    self-describing (WAV, FLAC, Ogg)  held whole -> libsndfile, block by block ─┐
                                                                                ├-> check -> soxr
    raw (LINEAR16, MULAW, ALAW)       as it comes -> numpy ─────────────────────┘

Every refusal is an `AudioError` that says what to do.
"""

import enum
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from service.errors import AudioError

MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 48_000
MAX_CHANNELS = 2

Samples = NDArray[np.float32]

_BLOCK_FRAMES = 65_536
_MAX_SAMPLE_BYTES = 8
_MAX_HEADER_BYTES = 1 << 20
_MAX_MAGNITUDE = 10.0
_WAV_MAGIC = (b"RIFF", b"RIFX", b"RF64")
_WAV_CHUNKS = 1_000
_WAV_LENGTH_UNKNOWN = 0x7FFF_0000
_OGG_PAGE_HEADER_BYTES = 27
_OGG_FLAGS, _OGG_BEGINS = 5, 2
_OGG_SERIAL = slice(14, 18)
_OGG_CHECKSUM = slice(22, 26)
_OGG_SEGMENTS = 26
_CRC_OF_ZERO = 0xFFFF_FFFF
_BITS_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_MAGIC_BYTES = 12
_SUBTYPES = {
    "WAV": {"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"},
    "FLAC": {"PCM_S8", "PCM_16", "PCM_24"},
    "OGG": {"OPUS"},
}
_KINDS = "send WAV (PCM, float or G.711), FLAC, or Ogg Opus"
_NOT_AUDIO = "the audio is not WAV, FLAC or Ogg; for raw audio set encoding and sample_rate"
_TRUNCATED = "the audio file is cut short or damaged; send the whole file"


class Encoding(enum.Enum):
    """How audio bytes are encoded; AUTO is self-describing WAV, FLAC or Ogg Opus."""

    AUTO = "auto"
    LINEAR16 = "linear16"
    MULAW = "mulaw"
    ALAW = "alaw"


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What the caller says of its audio; `sample_rate` in hertz.

    None for `sample_rate` or `channels` means as the file's header says (raw audio: one channel,
    and the rate is required). `channel`, from 0, is the one that carries the speaker.
    """

    encoding: Encoding = Encoding.AUTO
    sample_rate: int | None = None
    channels: int | None = None
    channel: int = 0


def decode(data: bytes, fmt: AudioFormat, *, rate: int, max_s: float) -> Samples:
    """All of `data` as `(samples,)` float32 mono at `rate` hertz; raises `AudioError`, also when
    it is longer than `max_s` seconds."""
    decoder = StreamDecoder(fmt, rate=rate, max_s=max_s)
    return np.concatenate([decoder.push(data), decoder.finish()])


class StreamDecoder:
    """Decodes audio as it comes; any chunking of the bytes gives the samples of `decode`.

    Raw audio comes out at most 0.12 s after it goes in (soxr works in blocks), self-describing
    audio at `finish`. After an `AudioError` the decoder is of no further use.
    """

    def __init__(self, fmt: AudioFormat, *, rate: int, max_s: float) -> None:
        source = _FileSource if fmt.encoding is Encoding.AUTO else _RawSource
        self._source: _FileSource | _RawSource = source(fmt, rate=rate, max_s=max_s)

    def push(self, data: bytes) -> Samples:
        """The `(samples,)` that `data` completes, perhaps none."""
        return self._source.push(data)

    def finish(self) -> Samples:
        """The remaining `(samples,)`; call once, after the last push."""
        return self._source.finish()


class _Resampler:
    """Checks samples and brings them to the wanted rate, in any chunking bit for bit the same."""

    def __init__(self, source_rate: int, rate: int, *, max_s: float) -> None:
        self._max_s = max_s
        self._room = int(max_s * source_rate)
        self._source_rate = source_rate
        self._rate = rate
        self.started = False

    @cached_property
    def _stream(self) -> soxr.ResampleStream:
        """Made for the first samples: it takes 50 kB, and a call may say nothing for long."""
        return soxr.ResampleStream(self._source_rate, self._rate, 1, "float32")

    def reserve(self, count: int) -> None:
        """Counts samples before they are decoded; raises when they exceed the limit."""
        self._room -= count
        if self._room < 0:
            raise AudioError(f"the audio is longer than the limit of {self._max_s:g} s; send less")

    def push(self, samples: Samples, *, last: bool = False) -> Samples:
        if not np.isfinite(samples).all():
            raise AudioError("the audio holds NaN or infinite samples; export it again")
        if samples.size and np.abs(samples).max() > _MAX_MAGNITUDE:
            raise AudioError("float samples far exceed full scale; scale them to -1..1")
        self.started = self.started or samples.size > 0
        if self._source_rate == self._rate:
            return samples
        resampled: Samples = self._stream.resample_chunk(samples, last=last)
        return resampled


class _RawSource:
    """Headerless interleaved samples, decoded as they come."""

    def __init__(self, fmt: AudioFormat, *, rate: int, max_s: float) -> None:
        if fmt.sample_rate is None:
            raise AudioError("raw audio needs its sample rate in hertz", field="audio.sample_rate")
        _check_rate(fmt.sample_rate)
        self._channels = 1 if fmt.channels is None else fmt.channels
        _check_channels(self._channels, fmt.channel)
        self._channel = fmt.channel
        self._encoding = fmt.encoding
        self._frame_bytes = self._channels * (2 if fmt.encoding is Encoding.LINEAR16 else 1)
        self._resampler = _Resampler(fmt.sample_rate, rate, max_s=max_s)
        self._carried = b""

    def push(self, data: bytes) -> Samples:
        data = self._carried + data
        frames = len(data) // self._frame_bytes
        self._resampler.reserve(frames)
        end = frames * self._frame_bytes
        self._carried = data[end:]
        samples = _RAW_DECODERS[self._encoding](data[:end])
        return self._resampler.push(np.ascontiguousarray(samples[self._channel :: self._channels]))

    def finish(self) -> Samples:
        if self._carried:
            raise AudioError(
                f"the audio ends inside a sample; {self._encoding.name} with {self._channels} "
                f"channel(s) takes a multiple of {self._frame_bytes} bytes"
            )
        if not self._resampler.started:
            raise AudioError("the audio is empty; send at least one sample")
        return self._resampler.push(np.zeros(0, np.float32), last=True)


class _FileSource:
    """A self-describing file, held until it is whole; never more than `max_s` of it is decoded."""

    def __init__(self, fmt: AudioFormat, *, rate: int, max_s: float) -> None:
        self._format = fmt
        self._rate = rate
        self._max_s = max_s
        samples = int(max_s * MAX_SAMPLE_RATE) * MAX_CHANNELS
        self._max_bytes = samples * _MAX_SAMPLE_BYTES + _MAX_HEADER_BYTES
        self._held = bytearray()

    def push(self, data: bytes) -> Samples:
        self._held += data
        if len(self._held) >= _MAGIC_BYTES:
            _container(self._held)
        if len(self._held) > self._max_bytes:
            raise AudioError(f"the file is larger than {self._max_s:g} s of audio; send less")
        return np.zeros(0, np.float32)

    def finish(self) -> Samples:
        if not self._held:
            raise AudioError("the audio is empty; send at least one sample")
        data, self._held = bytes(self._held), bytearray()
        _check_complete(data)
        with _opened(data) as file:
            try:
                return np.concatenate(list(self._decoded(file)))
            except soundfile.SoundFileError as error:
                raise AudioError(_TRUNCATED) from error

    def _decoded(self, file: soundfile.SoundFile) -> Iterator[Samples]:
        _check_header(file, self._format)
        resampler = _Resampler(file.samplerate, self._rate, max_s=self._max_s)
        decoded = 0
        while frames := len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
            resampler.reserve(frames)
            decoded += frames
            channel = np.ascontiguousarray(block[:, self._format.channel], np.float32)
            yield resampler.push(channel)
        if not decoded:
            raise AudioError("the audio file holds no samples; record it again")
        if decoded < file.frames != _FRAMES_UNKNOWN:
            raise AudioError(_TRUNCATED)
        yield resampler.push(np.zeros(0, np.float32), last=True)


_FRAMES_UNKNOWN = 2**63 - 1  # libsndfile's SF_COUNT_MAX, for a FLAC written to a pipe


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """Read once from front to back: soundfile's seek after each read fails at the end of a FLAC
    of unknown length, and libsndfile keeps its own position."""

    def seekable(self) -> bool:
        return False


def _opened(data: bytes) -> _Sequential:
    try:
        return _Sequential(io.BytesIO(data))
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"the audio file is damaged or not of a supported kind; {_KINDS}"
        ) from error


def _check_header(file: soundfile.SoundFile, fmt: AudioFormat) -> None:
    container = "WAV" if file.format in {"WAVEX", "RF64"} else file.format
    if file.subtype not in _SUBTYPES.get(container, set()):
        raise AudioError(f"{file.format} with {file.subtype} samples is not supported; {_KINDS}")
    _check_rate(file.samplerate)
    if fmt.sample_rate not in {None, file.samplerate}:
        raise AudioError(
            f"the file's header says {file.samplerate} Hz, the request {fmt.sample_rate} Hz; "
            "correct it or leave it unset",
            field="audio.sample_rate",
        )
    if fmt.channels not in {None, file.channels}:
        raise AudioError(
            f"the file's header says {file.channels} channel(s), the request {fmt.channels}; "
            "correct it or leave it unset",
            field="audio.channels",
        )
    _check_channels(file.channels, fmt.channel)


def _check_rate(sample_rate: int) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"a sample rate of {sample_rate} Hz is outside {MIN_SAMPLE_RATE}..{MAX_SAMPLE_RATE} "
            "Hz; resample the audio",
            field="audio.sample_rate",
        )


def _check_channels(channels: int, channel: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            f"audio of {channels} channels is not supported; send 1 or 2", field="audio.channels"
        )
    if not 0 <= channel < channels:
        raise AudioError(
            f"channel {channel} does not exist; the audio has {channels}, counted from 0",
            field="audio.channel",
        )


def _container(data: bytes | bytearray) -> str:
    """The container that the first bytes announce: libsndfile alone would take MP3 and more."""
    if data[:4] in _WAV_MAGIC and data[8:_MAGIC_BYTES] == b"WAVE":
        return "WAV"
    if data[:4] == b"fLaC":
        return "FLAC"
    if data[:4] == b"OggS":
        return "OGG"
    raise AudioError(_NOT_AUDIO)


def _check_complete(data: bytes) -> None:
    """libsndfile takes a WAV or Ogg that is cut short as it is; a FLAC it refuses by itself."""
    container = _container(data)
    if container == "WAV" and not _wav_is_whole(data):
        raise AudioError(_TRUNCATED)
    if container == "OGG":
        _check_ogg(data)


def _wav_is_whole(data: bytes) -> bool:
    """Whether the samples are as long as announced; a length near the top of its range, which
    programs write to a pipe, announces nothing."""
    header = struct.Struct(">4sI" if data[:4] == b"RIFX" else "<4sI")
    position, long_size = _MAGIC_BYTES, 0
    for _ in range(_WAV_CHUNKS):
        if position + header.size > len(data):
            return False
        name, size = header.unpack_from(data, position)
        position += header.size
        if name == b"ds64":
            long_size = int.from_bytes(data[position + 8 : position + 16], "little")
        if name == b"data":
            announced = size if size < _WAV_LENGTH_UNKNOWN else long_size
            return position + announced <= len(data)
        position += size + size % 2
    return False


def _check_ogg(data: bytes) -> None:
    """Refuses what libsndfile must not be given: a stream of Vorbis, whose headers of 200 bytes can
    make libvorbis overflow the stack, or anything but whole pages with their checksums, in which
    libogg looks for a page at every "OggS", for minutes in some 16 MB."""
    streams = set[bytes]()
    for page in _ogg_pages(data):
        serial, body = page[_OGG_SERIAL], page[_OGG_PAGE_HEADER_BYTES + page[_OGG_SEGMENTS] :]
        begins = serial not in streams or page[_OGG_FLAGS] & _OGG_BEGINS
        if begins and not body.startswith(b"OpusHead"):
            raise AudioError(f"the Ogg file holds something else than Opus; {_KINDS}")
        streams.add(serial)


def _ogg_pages(data: bytes) -> Iterator[bytes]:
    """The pages (RFC 3533, section 6); raises AudioError at anything else."""
    page = 0
    while page < len(data):
        lacing = page + _OGG_PAGE_HEADER_BYTES
        if lacing > len(data) or data[page : page + 5] != b"OggS\x00":
            raise AudioError(_TRUNCATED)
        body = lacing + data[lacing - 1]
        end = body + sum(data[lacing:body])
        if end > len(data) or not _ogg_page_holds(data[page:end]):
            raise AudioError(_TRUNCATED)
        yield data[page:end]
        page = end


def _ogg_page_holds(page: bytes) -> bool:
    """Whether the checksum is that of the page: the CRC of zlib (ISO 3309) with all bits in the
    other order, from zero and not inverted."""
    at = _OGG_CHECKSUM
    cleared = page[: at.start] + bytes(4) + page[at.stop :]
    reversed_crc = zlib.crc32(cleared.translate(_BITS_REVERSED), _CRC_OF_ZERO) ^ _CRC_OF_ZERO
    return reversed_crc.to_bytes(4).translate(_BITS_REVERSED) == page[at]


def _mulaw_table() -> Samples:
    """Code to sample, `(256,)`, full scale 1 (ITU-T G.711, table 2)."""
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return _signed(magnitude, negative=code & 0x80 != 0)


def _alaw_table() -> Samples:
    """Code to sample, `(256,)`, full scale 1 (ITU-T G.711, table 1)."""
    code = np.arange(256) ^ 0x55
    exponent = code >> 4 & 7
    step = ((code & 0x0F) << 4) + 8
    magnitude = np.where(exponent == 0, step, (step + 0x100) << np.maximum(exponent - 1, 0))
    return _signed(magnitude, negative=code & 0x80 == 0)


def _signed(magnitude: NDArray[np.int64], *, negative: NDArray[np.bool_]) -> Samples:
    return (np.where(negative, -magnitude, magnitude) / 32_768).astype(np.float32)


_MULAW = _mulaw_table()
_ALAW = _alaw_table()


def _linear16(data: bytes) -> Samples:
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32_768)


def _mulaw(data: bytes) -> Samples:
    return _MULAW[np.frombuffer(data, np.uint8)]


def _alaw(data: bytes) -> Samples:
    return _ALAW[np.frombuffer(data, np.uint8)]


_RAW_DECODERS = {Encoding.LINEAR16: _linear16, Encoding.MULAW: _mulaw, Encoding.ALAW: _alaw}
