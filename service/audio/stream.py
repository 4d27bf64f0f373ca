"""Stream: turn the bytes of one utterance into windows of its speech, and measure its quality.

    bytes -> decoder, resampler -> voice activity -> windows
                                        └> quality

Synchronous and pure: no event loop, thread or clock. Any chunking of the bytes gives the same
windows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.audio import pace
from service.audio.quality import UNSUSPICIOUS, Quality, Suspicions
from service.audio.speech import SpeechDetector, VoiceActivity
from service.audio.windows import WindowAccumulator, cut
from service.contract import Contract

Samples = NDArray[np.float32]

_BLOCK_S = 0.1  # soxr delays by as much
_MAX_BLOCK_BYTES = 1 << 16


class Decoder(Protocol):
    """Audio to samples at 16 kHz, as `service.audio.decoding.StreamDecoder` explains."""

    @property
    def bytes_per_s(self) -> float: ...

    @property
    def suspicions(self) -> Suspicions: ...

    def push(self, data: Any) -> Samples: ...

    def blocks(self) -> Iterable[Samples]: ...


class DecodedAudio:
    """A decoder for audio that is decoded already: samples `(n,)` at 16 kHz."""

    bytes_per_s = 0.0
    suspicions = UNSUSPICIOUS

    def push(self, data: Samples) -> Samples:
        return data

    def blocks(self) -> Iterable[Samples]:
        return ()


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows that some audio completed: `whole` ones, each `(window_samples,)` or, of speech
    shorter than that, of a short window's length; and for an enrollment `halves`, of half the
    length."""

    whole: list[Samples]
    halves: list[Samples]


class AudioStream:
    """Cuts one utterance into windows. Its memory does not grow with the audio, except for a
    compressed file.

    With `halves` it also cuts windows of half the length, which show whether two voices speak. Do
    not use it after an `AudioError`.
    """

    def __init__(
        self, decoder: Decoder, vad: VoiceActivity, contract: Contract, *, halves: bool = False
    ) -> None:
        self._decoder = decoder
        self._detector = SpeechDetector(vad)
        self._contract = contract
        self._windows = WindowAccumulator(contract.window_samples, contract.hop_samples)
        half = max(2, contract.window_samples // 2)
        self._halves = WindowAccumulator(half, half // 2) if halves else None
        self._speech_samples = 0
        self._wrong_rate: str | None = None  # None before the first window

    @property
    def block_bytes(self) -> int:
        """How many bytes to collect for a push: 100 ms of audio, but 1 while the first bytes can
        still show that the declaration is wrong."""
        return int(min(max(1, self._decoder.bytes_per_s * _BLOCK_S), _MAX_BLOCK_BYTES))

    @property
    def quality(self) -> Quality:
        """The quality of what was pushed so far."""
        measured, suspicions = self._detector.quality, self._decoder.suspicions
        if self._wrong_rate and not suspicions.implausible:
            suspicions = replace(suspicions, implausible=self._wrong_rate)
        if suspicions is UNSUSPICIOUS:
            return measured
        return replace(measured, suspicions=suspicions)

    @property
    def net_speech_s(self) -> float:
        """As in `quality`, but quick to read."""
        return self._detector.net_speech_s

    @property
    def total_s(self) -> float:
        """As in `quality`, but quick to read."""
        return self._detector.total_s

    @property
    def has_enough_speech(self) -> bool:
        """Whether there is as much speech as the model needs."""
        return self._speech_samples >= self._contract.min_speech_samples

    def push(self, audio: Any) -> Windows:
        """Take the next audio, as the decoder reads it; raises `AudioError`."""
        return self._cut([self._detector.push(self._decoder.push(audio))])

    def finish(self, audio: Any = None) -> Windows:
        """Take the last audio, if any, and end the utterance; call once. Raises `AudioError`."""
        windows = self._cut(self._read_last_speech(audio))
        if self.has_enough_speech:
            windows.whole.extend(self.cut_last_windows())
        return windows

    def cut_last_windows(self) -> Samples:
        """Return the windows `(k, length)` that `finish` would add now: one that ends with the
        speech or, if the speech is shorter than a window, those of the longest allowed length that
        it fills. If it fills none, it is repeated to the shortest length."""
        tail, hop = self._windows.cut_tail(), self._contract.hop_samples
        lengths = sorted((*self._contract.short_windows, self._contract.window_samples))
        length = max((n for n in lengths if n <= self._speech_samples), default=lengths[0])
        if length == self._contract.window_samples:
            return tail
        speech = tail[0, : self._speech_samples]  # the tail starts with all of it
        return cut(speech, window_samples=length, hop_samples=min(hop, length))

    def _read_last_speech(self, audio: Any) -> Iterator[Samples]:
        """Yield the pieces of speech `(n,)` up to the end, one by one: an hour of silence in 100
        kB of a compressed file is 230 MB of samples."""
        if audio is not None:
            yield self._detector.push(self._decoder.push(audio))
        for block in self._decoder.blocks():
            yield self._detector.push(block)
        yield self._detector.finish()

    def _cut(self, pieces: Iterable[Samples]) -> Windows:
        """Return the windows that consecutive pieces of speech `(n,)` complete."""
        windows = Windows([], [])
        for speech in pieces:
            self._speech_samples += speech.size
            windows.whole.extend(self._windows.push(speech))
            if self._halves is not None:
                windows.halves.extend(self._halves.push(speech))
        if self._wrong_rate is None and windows.whole:
            self._wrong_rate = pace.judge_rate(windows.whole[0])
        return windows
