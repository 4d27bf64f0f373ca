"""Resampling: frames of one or two channels to the speaker's samples at the model's rate."""

import numpy as np
import soxr
from numpy.typing import NDArray

from service.audio.formats import check_rate, choose_channel
from service.errors import AudioError

Samples = NDArray[np.float32]

EMPTY = "the audio is empty; send at least one sample"
NO_SAMPLES = np.zeros(0, np.float32)

_MAX_MAGNITUDE = 10.0
_LOUDER = 10.0  # times the power of the chosen channel: 10 dB


class Resampler:
    """Picks the speaker's channel, checks its samples and brings them to `rate` hertz; any
    chunking of the frames gives the same samples, bit for bit.

    `channel`, from 0, is the speaker's, None if the caller did not declare one. At most `max_s`
    seconds are accepted.
    """

    def __init__(self, channel: int | None, rate: int, *, max_s: float) -> None:
        self.max_s = max_s
        self._declared_channel = channel
        self._rate = rate
        self._source_rate: int | None = None
        self._frames_left = 0
        self._channel = 0
        self._powers = np.zeros(1)
        self._stream: soxr.ResampleStream | None = None
        self._has_samples = False

    def begin(self, source_rate: int, channels: int) -> None:
        """Set the format of the frames to come; a chain of Ogg streams begins more than once.

        Raises `AudioError` if the format is not supported.
        """
        check_rate(source_rate)
        self._channel = choose_channel(channels, self._declared_channel)
        if self._source_rate is None:
            self._frames_left = int(self.max_s * source_rate)
            self._source_rate = source_rate
        self._powers = np.zeros(channels)

    @property
    def louder_channel(self) -> int | None:
        """The other channel, if it is 10 dB louder than the speaker's."""
        if len(self._powers) == 1:
            return None
        loudest = int(np.argmax(self._powers))
        louder = self._powers[loudest] > _LOUDER * self._powers[self._channel]
        return loudest if louder else None

    def push(self, frames: Samples) -> Samples:
        """Return the `(samples,)` that `frames (n, channels)` complete; raises `AudioError`."""
        self._frames_left -= len(frames)
        if self._frames_left < 0:
            raise AudioError(f"the audio is longer than the limit of {self.max_s:g} s; send less")
        if not np.isfinite(frames).all():
            raise AudioError("the audio holds NaN or infinite samples; export it again")
        if len(self._powers) > 1:
            self._powers += np.square(frames, dtype=np.float64).sum(axis=0)
        samples = np.ascontiguousarray(frames[:, self._channel])
        if samples.size and np.abs(samples).max() > _MAX_MAGNITUDE:
            raise AudioError("float samples far exceed full scale; scale them to -1..1")
        self._has_samples = self._has_samples or samples.size > 0
        return self._resample(samples, last=False)

    def finish(self) -> Samples:
        """Return the last samples; raises `AudioError` if there were none at all."""
        if not self._has_samples:
            raise AudioError(EMPTY)
        return self._resample(NO_SAMPLES, last=True)

    def _resample(self, samples: Samples, *, last: bool) -> Samples:
        assert self._source_rate is not None, "begin() comes before samples"
        if self._source_rate == self._rate:
            return samples
        if self._stream is None:  # not before samples: it takes 50 kB, and a call may stay silent
            self._stream = soxr.ResampleStream(self._source_rate, self._rate, 1, "float32")
        resampled: Samples = self._stream.resample_chunk(samples, last=last)
        return resampled
