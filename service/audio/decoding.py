"""Audio: the bytes of a request to float32 mono samples at the contract's rate.

    raw (LINEAR16, MULAW, ALAW)  as it comes ──────────────────────┐
    WAV                          as it comes -> wav ───────────────┼─> channel -> check -> soxr
    Ogg Opus                     held whole -> ogg ─┐              │
    FLAC, MP3                    held whole ────────┴> libsndfile ─┘
                                                    block by block

Every refusal is an `AudioError` that says what to do.
"""

import enum
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from service.audio import containers, g711, ogg
from service.audio.plausibility import Plausibility
from service.audio.quality import UNSUSPICIOUS, Suspicions
from service.audio.wav import WavReader
from service.errors import AudioError

MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 48_000
MAX_CHANNELS = 2

Samples = NDArray[np.float32]

_NOTHING = np.zeros(0, np.float32)
_BLOCK_FRAMES = 65_536
_BLOCK_BYTES = 1 << 18
_MAX_SAMPLE_BYTES = 8
_MAX_HEADER_BYTES = 1 << 20
_MAX_MAGNITUDE = 10.0
_LOUDER = 10.0  # times the power of the chosen channel: 10 dB
_SUBTYPES = {
    "FLAC": {"PCM_S8", "PCM_16", "PCM_24"},
    "OGG": {"OPUS"},
    "MP3": {"MPEG_LAYER_III"},
}
_EMPTY = "the audio is empty; send at least one sample"
_TRUNCATED = "the audio file is cut short or damaged; send the whole file"


class Encoding(enum.Enum):
    """How audio bytes are encoded; AUTO is a file: WAV, FLAC, Ogg Opus or MP3."""

    AUTO = "auto"
    LINEAR16 = "linear16"
    MULAW = "mulaw"
    ALAW = "alaw"


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What the caller says of its audio; `sample_rate` in hertz.

    None for `sample_rate` or `channels` means as the file's header says (raw audio: one channel,
    and the rate is required). `channel`, from 0, is the one that carries the speaker; audio of two
    channels needs it.
    """

    encoding: Encoding = Encoding.AUTO
    sample_rate: int | None = None
    channels: int | None = None
    channel: int | None = None


def decode(data: bytes, fmt: AudioFormat, *, rate: int, max_s: float) -> Samples:
    """All of `data` as `(samples,)` float32 mono at `rate` hertz; raises `AudioError`, also when
    it is longer than `max_s` seconds."""
    return StreamDecoder(fmt, rate=rate, max_s=max_s).whole(data)


class StreamDecoder:
    """Decodes audio as it comes; any chunking of the bytes gives the samples of `decode`.

    Raw audio and WAV come out at most 0.12 s after they go in (soxr works in blocks), other files
    at the end. After an `AudioError` the decoder is of no further use.
    """

    def __init__(self, fmt: AudioFormat, *, rate: int, max_s: float) -> None:
        output = _Output(fmt, rate, max_s=max_s)
        self._output = output
        self._source = _RawSource(output) if fmt.encoding is not Encoding.AUTO else _File(output)

    @property
    def suspicions(self) -> Suspicions:
        """Of what was pushed so far."""
        verdict, louder = self._source.verdict, self._output.louder_channel
        if not verdict and louder is None:
            return UNSUSPICIOUS
        return Suspicions(verdict, louder)

    def push(self, data: bytes) -> Samples:
        """The `(samples,)` that `data` completes, perhaps none."""
        return self._source.push(data)

    def blocks(self) -> Iterator[Samples]:
        """The remaining samples, block by block; to be asked for once, after the last push."""
        yield from self._source.blocks()
        yield self._output.end()

    def finish(self) -> Samples:
        """The remaining `(samples,)`; call once, after the last push."""
        return np.concatenate([_NOTHING, *self.blocks()])

    def whole(self, data: bytes) -> Samples:
        """All of `data`, which nothing was pushed before."""
        return np.concatenate([self.push(data), *self.blocks()])


class _Output:
    """From frames to samples: picks the channel, checks, and resamples, in any chunking bit for
    bit the same."""

    def __init__(self, fmt: AudioFormat, rate: int, *, max_s: float) -> None:
        self.format = fmt
        self.max_s = max_s
        self._rate = rate
        self._source_rate: int | None = None
        self._room = 0
        self._channel = 0
        self._powers = np.zeros(1)
        self._started = False

    def begin(self, source_rate: int, channels: int) -> None:
        """What comes is so; raises `AudioError` if that is not what the caller said."""
        _check_rate(source_rate)
        self._channel = _checked_channel(channels, self.format.channel)
        if self._source_rate is None:
            self._room = int(self.max_s * source_rate)
            self._source_rate = source_rate
        self._powers = np.zeros(channels)

    @property
    def louder_channel(self) -> int | None:
        """The other channel, if it is 10 dB louder than the one that was asked for."""
        if len(self._powers) == 1:
            return None
        loudest = int(np.argmax(self._powers))
        louder = self._powers[loudest] > _LOUDER * self._powers[self._channel]
        return loudest if louder else None

    @cached_property
    def _stream(self) -> soxr.ResampleStream:
        """Made for the first samples: it takes 50 kB, and a call may say nothing for long."""
        assert self._source_rate is not None, "samples come after their rate"
        return soxr.ResampleStream(self._source_rate, self._rate, 1, "float32")

    def push(self, frames: Samples) -> Samples:
        """Takes `(frames, channels)`; raises `AudioError` when they exceed the limit."""
        self._room -= len(frames)
        if self._room < 0:
            raise AudioError(f"the audio is longer than the limit of {self.max_s:g} s; send less")
        if not np.isfinite(frames).all():
            raise AudioError("the audio holds NaN or infinite samples; export it again")
        if len(self._powers) > 1:
            self._powers += np.square(frames, dtype=np.float64).sum(axis=0)
        samples = np.ascontiguousarray(frames[:, self._channel])
        if samples.size and np.abs(samples).max() > _MAX_MAGNITUDE:
            raise AudioError("float samples far exceed full scale; scale them to -1..1")
        self._started = self._started or samples.size > 0
        return self._resampled(samples, last=False)

    def end(self) -> Samples:
        if not self._started:
            raise AudioError(_EMPTY)
        return self._resampled(_NOTHING, last=True)

    def _resampled(self, samples: Samples, *, last: bool) -> Samples:
        if self._source_rate == self._rate:
            return samples
        resampled: Samples = self._stream.resample_chunk(samples, last=last)
        return resampled


class _RawSource:
    """Headerless interleaved samples, decoded as they come; part of a frame at the end is none."""

    def __init__(self, output: _Output) -> None:
        fmt = output.format
        if fmt.sample_rate is None:
            raise AudioError("raw audio needs its sample rate in hertz", field="audio.sample_rate")
        self._channels = 1 if fmt.channels is None else fmt.channels
        output.begin(fmt.sample_rate, self._channels)
        self._encoding = fmt.encoding
        self._frame_bytes = self._channels * (2 if fmt.encoding is Encoding.LINEAR16 else 1)
        self._output = output
        self._plausibility = Plausibility(fmt.encoding.name, self._channels, fmt.channel or 0)
        self._carried = b""
        self._first: bytes | None = b""

    @property
    def verdict(self) -> str:
        """What the audio looks like instead of what it is declared as."""
        return self._plausibility.verdict

    def push(self, data: bytes) -> Samples:
        self._check_beginning(data)
        data = self._carried + data
        end = len(data) - len(data) % self._frame_bytes
        self._carried = data[end:]
        self._plausibility.hear(data[:end])
        samples = _RAW_DECODERS[self._encoding](data[:end])
        return self._output.push(samples.reshape(-1, self._channels))

    def blocks(self) -> Iterator[Samples]:
        return iter(())

    def _check_beginning(self, data: bytes) -> None:
        if self._first is None:
            return
        self._first += data[: containers.MAGIC_BYTES]
        containers.refuse_in_raw(self._first, self._encoding.name)
        if len(self._first) >= containers.MAGIC_BYTES:
            self._first = None


class _File:
    """A file, of a kind that its first bytes tell; its header is believed."""

    verdict = ""

    def __init__(self, output: _Output) -> None:
        self._output = output
        self._first = b""
        self._source: _WavSource | _HeldSource | None = None

    def push(self, data: bytes) -> Samples:
        if self._source is None:
            data = self._first = self._first + data
            if len(data) < containers.MAGIC_BYTES:
                return _NOTHING
            self._source = self._opened()
        return self._source.push(data)

    def blocks(self) -> Iterator[Samples]:
        if not self._first:
            raise AudioError(_EMPTY)
        if self._source is None:
            self._source = self._opened()
            yield self._source.push(self._first)
        yield from self._source.blocks()

    def _opened(self) -> "_WavSource | _HeldSource":
        kind = containers.kind(self._first)
        return _WavSource(self._output) if kind == "WAV" else _HeldSource(self._output, kind)


class _WavSource:
    def __init__(self, output: _Output) -> None:
        self._output = output
        self._reader = WavReader()
        self._begun = False

    def push(self, data: bytes) -> Samples:
        pieces = range(0, len(data), _BLOCK_BYTES)
        samples = [self._heard(data[start : start + _BLOCK_BYTES]) for start in pieces]
        return np.concatenate([_NOTHING, *samples])

    def blocks(self) -> Iterator[Samples]:
        self._reader.finish()
        return iter(())

    def _heard(self, data: bytes) -> Samples:
        frames = self._reader.push(data)
        if self._reader.format is None or not len(frames):
            return _NOTHING
        if not self._begun:
            found = self._reader.format
            _check_header(self._output.format, found.sample_rate, found.channels)
            self._output.begin(found.sample_rate, found.channels)
            self._begun = True
        return self._output.push(frames)


class _HeldSource:
    """A compressed file, held until it is whole; no more of it than the limit is decoded."""

    def __init__(self, output: _Output, kind: str) -> None:
        self._output = output
        self._kind = kind
        samples = int(output.max_s * MAX_SAMPLE_RATE) * MAX_CHANNELS
        self._max_bytes = samples * _MAX_SAMPLE_BYTES + _MAX_HEADER_BYTES
        self._held = bytearray()

    def push(self, data: bytes) -> Samples:
        self._held += data
        if len(self._held) > self._max_bytes:
            raise AudioError(
                f"the file is larger than {self._output.max_s:g} s of audio; send less"
            )
        return _NOTHING

    def blocks(self) -> Iterator[Samples]:
        data, self._held = bytes(self._held), bytearray()
        streams = (
            ogg.opus_streams(data, max_s=self._output.max_s) if self._kind == "OGG" else [data]
        )
        for stream in streams:
            with _opened(stream) as file:
                yield from self._decoded(file)

    def _decoded(self, file: soundfile.SoundFile) -> Iterator[Samples]:
        if file.subtype not in _SUBTYPES.get(file.format, set()):
            raise AudioError(
                f"{file.format} with {file.subtype} samples is not read; {containers.convert()}"
            )
        rate = None if self._kind == "OGG" else file.samplerate
        _check_header(self._output.format, rate, file.channels)
        self._output.begin(file.samplerate, file.channels)
        decoded = 0
        while len(frames := _read(file)):
            decoded += len(frames)
            yield self._output.push(frames)
        if self._kind == "FLAC" and decoded < file.frames != _FRAMES_UNKNOWN:
            raise AudioError(_TRUNCATED)


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
            f"the audio file is damaged or of another kind; {containers.convert()}"
        ) from error


def _read(file: soundfile.SoundFile) -> Samples:
    try:
        frames = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioError(_TRUNCATED) from error
    return np.asarray(frames, np.float32)


def _check_header(fmt: AudioFormat, sample_rate: int | None, channels: int) -> None:
    """`sample_rate` is None if the file has none of its own: Opus always decodes to 48 kHz."""
    if sample_rate is not None and fmt.sample_rate not in {None, sample_rate}:
        raise AudioError(
            f"the file's header says {sample_rate} Hz, the request {fmt.sample_rate} Hz; "
            "correct it or leave it unset",
            field="audio.sample_rate",
        )
    if fmt.channels not in {None, channels}:
        raise AudioError(
            f"the file's header says {channels} channel(s), the request {fmt.channels}; "
            "correct it or leave it unset",
            field="audio.channels",
        )


def _check_rate(sample_rate: int) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"a sample rate of {sample_rate} Hz is outside {MIN_SAMPLE_RATE}..{MAX_SAMPLE_RATE} "
            "Hz; resample the audio",
            field="audio.sample_rate",
        )


def _checked_channel(channels: int, channel: int | None) -> int:
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            f"audio of {channels} channels is not supported; send 1 or 2", field="audio.channels"
        )
    if channel is None and channels > 1:
        raise AudioError(
            "the audio has two channels; say which one holds the speaker, 0 or 1",
            field="audio.channel",
        )
    if not 0 <= (channel or 0) < channels:
        raise AudioError(
            f"channel {channel} does not exist; the audio has {channels}, counted from 0",
            field="audio.channel",
        )
    return channel or 0


def _linear16(data: bytes) -> Samples:
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32_768)


_RAW_DECODERS = {
    Encoding.LINEAR16: _linear16,
    Encoding.MULAW: g711.mulaw,
    Encoding.ALAW: g711.alaw,
}
