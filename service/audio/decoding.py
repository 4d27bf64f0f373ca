"""Decoding: the bytes of a request to float32 mono samples at the model's rate.

    raw (LINEAR16, G.711, G.722) as it comes -> codecs ────────────┐
    WAV                          as it comes -> wav ───────────────┼─> resampling
    Opus in Ogg or WebM          once whole -> ogg, webm ─┐        │
    FLAC, MP3                    once whole ──────────────┴> compressed ─┘

Every refusal is an `AudioError` that says what to do.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from service.audio import containers
from service.audio.compressed import CompressedSource
from service.audio.formats import AudioFormat, check_header
from service.audio.quality import UNSUSPICIOUS, Suspicions
from service.audio.resampling import EMPTY, NO_SAMPLES, Resampler, Samples
from service.audio.wav import WavReader
from service.errors import AudioError

__all__ = ["AudioFormat", "Samples", "StreamDecoder", "decode"]

_WAV_BLOCK_BYTES = 1 << 18


def decode(data: bytes, fmt: AudioFormat, *, rate: int, max_s: float) -> Samples:
    """Decode all of `data` to `(samples,)` float32 mono at `rate` hertz; raises `AudioError`, also
    if it is longer than `max_s` seconds."""
    decoder = StreamDecoder(fmt, rate=rate, max_s=max_s)
    return np.concatenate([decoder.push(data), *decoder.blocks()])


class StreamDecoder:
    """Decodes one stream; any chunking of its bytes gives the samples of `decode`.

    Samples of raw audio and WAV come at most 0.12 s late (soxr works in blocks), those of other
    files at the end. Do not use the decoder after an `AudioError`.
    """

    def __init__(self, fmt: AudioFormat, *, rate: int, max_s: float) -> None:
        self._resampler = Resampler(fmt.channel, rate, max_s=max_s)
        kind = _FileSource if fmt.is_file else _RawSource
        self._source: _Source = kind(fmt, self._resampler)

    @property
    def bytes_per_s(self) -> float:
        """The bytes of a second of audio; 0 while the header or the beginning is still read,
        infinite if the bytes are only stored until the end."""
        return self._source.bytes_per_s

    @property
    def suspicions(self) -> Suspicions:
        """The doubts about the audio so far."""
        verdict, louder = self._source.verdict, self._resampler.louder_channel
        if not verdict and louder is None:
            return UNSUSPICIOUS
        return Suspicions(verdict, louder)

    def push(self, data: bytes) -> Samples:
        """Return the `(samples,)` that `data` completes, perhaps none."""
        return self._source.push(data)

    def blocks(self) -> Iterator[Samples]:
        """Yield the remaining samples in blocks; iterate once, after the last push."""
        yield from self._source.blocks()
        yield self._resampler.finish()


class _Source(Protocol):
    """Turns bytes into frames, and passes them through a `Resampler`."""

    @property
    def verdict(self) -> str: ...

    @property
    def bytes_per_s(self) -> float: ...

    def push(self, data: bytes) -> Samples: ...

    def blocks(self) -> Iterator[Samples]: ...


class _RawSource:
    """Raw audio, decoded by a codec as it comes."""

    def __init__(self, fmt: AudioFormat, resampler: Resampler) -> None:
        self._codec = fmt.open_codec()
        self._resampler = resampler
        resampler.begin(self._codec.sample_rate, self._codec.channels)
        self._beginning: bytes | None = b""

    @property
    def verdict(self) -> str:
        return self._codec.verdict

    @property
    def bytes_per_s(self) -> float:
        return self._codec.bytes_per_s if self._beginning is None else 0.0

    def push(self, data: bytes) -> Samples:
        self._refuse_file(data)
        return self._resampler.push(self._codec.decode(data))

    def blocks(self) -> Iterator[Samples]:
        return iter(())

    def _refuse_file(self, data: bytes) -> None:
        """Raise `AudioError` if the stream begins as a file does."""
        if self._beginning is None:
            return
        self._beginning += data[: containers.MAGIC_BYTES]
        containers.refuse_in_raw(self._beginning, self._codec.name)
        if len(self._beginning) >= containers.MAGIC_BYTES:
            self._beginning = None


class _FileSource:
    """A file, whose kind its first bytes tell and whose format its header."""

    verdict = ""

    def __init__(self, fmt: AudioFormat, resampler: Resampler) -> None:
        self._format = fmt
        self._resampler = resampler
        self._beginning = b""
        self._source: _Source | None = None

    @property
    def bytes_per_s(self) -> float:
        return 0.0 if self._source is None else self._source.bytes_per_s

    def push(self, data: bytes) -> Samples:
        if self._source is None:
            data = self._beginning = self._beginning + data
            if len(data) < containers.MAGIC_BYTES:
                return NO_SAMPLES
            self._source = self._open()
        return self._source.push(data)

    def blocks(self) -> Iterator[Samples]:
        if not self._beginning:
            raise AudioError(EMPTY)
        if self._source is None:
            self._source = self._open()
            yield self._source.push(self._beginning)
        yield from self._source.blocks()

    def _open(self) -> _Source:
        kind = containers.detect_kind(self._beginning)
        if kind == "WAV":
            return _WavSource(self._format, self._resampler)
        return CompressedSource(self._format, self._resampler, kind)


class _WavSource:
    """WAV, decoded as it comes, in blocks: a float64 file would fill memory fourfold."""

    verdict = ""

    def __init__(self, fmt: AudioFormat, resampler: Resampler) -> None:
        self._format = fmt
        self._resampler = resampler
        self._reader = WavReader()
        self._begun = False

    @property
    def bytes_per_s(self) -> float:
        header = self._reader.format
        if header is None or not self._begun:
            return 0.0
        return float(header.sample_rate * header.frame_bytes)

    def push(self, data: bytes) -> Samples:
        starts = range(0, len(data), _WAV_BLOCK_BYTES)
        samples = [self._decode(data[start : start + _WAV_BLOCK_BYTES]) for start in starts]
        return np.concatenate([NO_SAMPLES, *samples])

    def blocks(self) -> Iterator[Samples]:
        self._reader.finish()
        return iter(())

    def _decode(self, data: bytes) -> Samples:
        frames = self._reader.push(data)
        header = self._reader.format
        if header is None or not len(frames):
            return NO_SAMPLES
        if not self._begun:
            check_header(self._format, header.sample_rate, header.channels)
            self._resampler.begin(header.sample_rate, header.channels)
            self._begun = True
        return self._resampler.push(frames)
