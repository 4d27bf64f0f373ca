"""Compressed files: FLAC, Opus in Ogg or WebM, and MP3, collected until they are whole, then
decoded by libsndfile."""

import io
from collections.abc import Iterable, Iterator

import numpy as np
import soundfile

from service.audio import containers, ogg, webm
from service.audio.formats import MAX_CHANNELS, MAX_SAMPLE_RATE, AudioFormat, check_header
from service.audio.resampling import NO_SAMPLES, Resampler, Samples
from service.errors import AudioError

_BLOCK_FRAMES = 65_536
_MAX_SAMPLE_BYTES = 8
_MAX_HEADER_BYTES = 1 << 20
_FRAMES_UNKNOWN = 2**63 - 1  # libsndfile's SF_COUNT_MAX, for a FLAC written to a pipe
_SUBTYPES = {
    "FLAC": {"PCM_S8", "PCM_16", "PCM_24"},
    "OGG": {"OPUS"},
    "MP3": {"MPEG_LAYER_III"},
}
_TRUNCATED = "the audio file is cut short or damaged; send the whole file"


class CompressedSource:
    """A file of `kind` "FLAC", "OGG", "WEBM" or "MP3". No more of it is decoded than the time
    limit."""

    verdict = ""
    bytes_per_s = float("inf")  # pushing only stores them

    def __init__(self, fmt: AudioFormat, resampler: Resampler, kind: str) -> None:
        self._format = fmt
        self._resampler = resampler
        self._kind = kind
        samples = int(resampler.max_s * MAX_SAMPLE_RATE) * MAX_CHANNELS
        self._max_bytes = samples * _MAX_SAMPLE_BYTES + _MAX_HEADER_BYTES
        self._data = bytearray()

    def push(self, data: bytes) -> Samples:
        self._data += data
        if len(self._data) > self._max_bytes:
            raise AudioError(
                f"the file is larger than {self._resampler.max_s:g} s of audio; send less"
            )
        return NO_SAMPLES

    def blocks(self) -> Iterator[Samples]:
        data, self._data = bytes(self._data), bytearray()
        for stream in self._list_streams(data):
            with _open(stream) as file:
                yield from self._decode(file)

    def _list_streams(self, data: bytes) -> Iterable[bytes]:
        """List the files that libsndfile decodes, one after the other."""
        match self._kind:
            case "OGG":
                return ogg.split_streams(data, max_s=self._resampler.max_s)
            case "WEBM":
                return [webm.extract_opus(data, max_s=self._resampler.max_s)]
        return [data]

    def _decode(self, file: soundfile.SoundFile) -> Iterator[Samples]:
        if file.subtype not in _SUBTYPES.get(file.format, set()):
            raise AudioError(
                f"{file.format} with {file.subtype} samples is not read; {containers.advise()}"
            )
        rate = None if self._kind in {"OGG", "WEBM"} else file.samplerate
        check_header(self._format, rate, file.channels)
        self._resampler.begin(file.samplerate, file.channels)
        decoded = 0
        while len(frames := _read(file)):
            decoded += len(frames)
            yield self._resampler.push(frames)
        if self._kind == "FLAC" and decoded < file.frames != _FRAMES_UNKNOWN:
            raise AudioError(_TRUNCATED)


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read once from front to back: soundfile's seek after each read fails at the
    end of a FLAC of unknown length, and libsndfile keeps its own position."""

    def seekable(self) -> bool:
        return False


def _open(data: bytes) -> _SequentialFile:
    try:
        return _SequentialFile(io.BytesIO(data))
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"the audio file is damaged or of another kind; {containers.advise()}"
        ) from error


def _read(file: soundfile.SoundFile) -> Samples:
    try:
        frames = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioError(_TRUNCATED) from error
    return np.asarray(frames, np.float32)
