"""Speech: where someone talks, and how much; incremental.

    samples -> frames of 32 ms -> probability of speech -> bursts -> speech samples
                        └------------- raw signal -----------------> quality

Voice activity is Silero's 16 kHz model, https://github.com/snakers4/silero-vad; `silero` finds it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service import silero
from service.errors import StartupError
from service.quality import Frame, Loudness, Meter, Quality, Samples, loudness

FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64

State = tuple[NDArray[np.float32], NDArray[np.float32]]

_STATE_SHAPE = (1, 1, 128)
_LEAD_IN_FRAMES = 2
_BLOCK_FRAMES = 512


class VoiceActivity:
    """Silero's recurrent model; one instance serves every stream and thread.

    Streams start from the state `rested`, after a moment of silence: from its zero state the
    model misses speech that starts at once.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        rest = np.zeros(_STATE_SHAPE, np.float32)
        silence = np.zeros((_LEAD_IN_FRAMES, CONTEXT_SAMPLES + FRAME_SAMPLES), np.float32)
        _, self.rested = self.probabilities(silence, (rest, rest))

    @classmethod
    def open(cls, path: Path | None = None, *, threads: int = 1) -> Self:
        """Loads the model at `path`, or Silero's; raises `StartupError`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if path is None:
            return cls(silero.session(options))
        try:
            return cls(silero.load(path, options))
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise StartupError(f"{path} is no model of voice activity ({error})") from error

    def probabilities(self, frames: Samples, state: State) -> tuple[Samples, State]:
        """Probability of speech `(n,)` in consecutive `frames (n, 576)`, each its 512 samples
        after the 64 before them, and the state to go on from."""
        hidden, cell = state
        outputs = self._session.run(
            ["speech_probs", "hn", "cn"], {"input": frames, "h": hidden, "c": cell}
        )
        probabilities, hidden, cell = cast("Sequence[Samples]", outputs)
        return probabilities, (hidden, cell)


@dataclass(frozen=True, slots=True)
class Bursts:
    """What counts as speech: `min_frames` in a row, the first with a probability of `enter` and
    the others of `leave`; and with them the frames shortly before and after."""

    enter: float = 0.5
    leave: float = 0.35
    min_frames: int = 3
    before_frames: int = 2
    after_frames: int = 4


@dataclass(frozen=True, slots=True)
class Speech:
    """The speech `(n,)` of a recording, float32 at 16 kHz, and its quality."""

    samples: Samples
    quality: Quality


def extract(vad: VoiceActivity, samples: Samples) -> Speech:
    """The speech in `samples (n,)` at 16 kHz: what a detector finds that is pushed all of it."""
    detector = SpeechDetector(vad)
    speech = np.concatenate([detector.push(samples), detector.finish()])
    return Speech(speech, detector.quality)


class SpeechDetector:
    """Finds the speech of one stream at 16 kHz; any chunking of it gives the same, bit for bit."""

    def __init__(self, vad: VoiceActivity, bursts: Bursts | None = None) -> None:
        self._vad = vad
        self._state = vad.rested
        self._bursts = bursts or Bursts()
        self._waiting = np.zeros(CONTEXT_SAMPLES, np.float32)  # context, then less than a frame
        self._undecided: deque[Frame] = deque()
        self._voiced_run = 0
        self._after = 0  # frames that are speech whatever they hold
        self._meter = Meter()

    @property
    def quality(self) -> Quality:
        """Of the stream so far."""
        return self._meter.quality()

    def push(self, samples: Samples) -> Samples:
        """The speech `(n,)` now known to be speech, in order, perhaps from earlier pushes."""
        self._meter.hear(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        return _joined(self._take_frames(FRAME_SAMPLES))

    def finish(self) -> Samples:
        """The speech at the end `(n,)`; call once, after the last push."""
        rest = len(self._waiting) - CONTEXT_SAMPLES
        self._waiting = np.pad(self._waiting, (0, -rest % FRAME_SAMPLES))
        speech = _joined(self._take_frames(rest))
        self._drop(keep=0)
        return speech

    def _take_frames(self, frame_samples: int) -> Iterator[Frame]:
        """Speech frames among the whole ones waiting, each the first `frame_samples` of its own."""
        count = (len(self._waiting) - CONTEXT_SAMPLES) // FRAME_SAMPLES
        if not count:
            return
        frames = _overlapping(self._waiting, count)
        self._waiting = self._waiting[count * FRAME_SAMPLES :].copy()
        for start in range(0, count, _BLOCK_FRAMES):
            block = np.ascontiguousarray(frames[start : start + _BLOCK_FRAMES], np.float32)
            probabilities, self._state = self._vad.probabilities(block, self._state)
            signal = block[:, CONTEXT_SAMPLES : CONTEXT_SAMPLES + frame_samples]
            loud = loudness(signal)
            for heard in zip(signal, loud, probabilities.tolist(), strict=True):
                yield from self._decide(*heard)

    def _decide(self, samples: Samples, loud: Loudness, probability: float) -> list[Frame]:
        """The undecided frames that are speech now that this one has come."""
        rules = self._bursts
        voiced = probability >= (rules.leave if self._voiced_run else rules.enter)
        self._voiced_run = self._voiced_run + 1 if voiced else 0
        self._undecided.append(Frame(samples, loud, voiced))
        if self._voiced_run >= rules.min_frames:
            self._after = rules.after_frames
        elif self._after:
            self._after -= 1
        else:
            self._drop(keep=rules.before_frames + self._voiced_run)
            return []
        speech = list(self._undecided)
        self._undecided.clear()
        self._meter.speech(speech)
        return speech

    def _drop(self, *, keep: int) -> None:
        while len(self._undecided) > keep:
            self._meter.no_speech(self._undecided.popleft())


def _overlapping(waiting: Samples, count: int) -> Samples:
    """A view `(count, 576)` of frames that begin with the end of the one before."""
    shape = (count, CONTEXT_SAMPLES + FRAME_SAMPLES)
    strides = (FRAME_SAMPLES * waiting.itemsize, waiting.itemsize)
    return np.ndarray(shape, waiting.dtype, waiting, strides=strides)


def _joined(frames: Iterable[Frame]) -> Samples:
    return np.concatenate([np.zeros(0, np.float32), *(frame.samples for frame in frames)])
