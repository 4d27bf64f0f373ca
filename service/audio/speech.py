"""Speech: where someone talks, and how much; incremental.

    samples -> frames of 32 ms -> probability of speech -> bursts -> speech samples
                        └------------- raw signal -----------------> quality

Voice activity is Silero's 16 kHz model, https://github.com/snakers4/silero-vad; `silero` finds it.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.audio import voice_activity
from service.audio.quality import Frame, Meter, Quality, Samples, levels
from service.errors import StartupError

FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64

State = tuple[NDArray[np.float32], NDArray[np.float32]]

_STATE_SHAPE = (1, 1, 128)
_LEAD_IN_FRAMES = 2
_BLOCK_SAMPLES = 512 * FRAME_SAMPLES


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
            return cls(voice_activity.session(options))
        try:
            return cls(voice_activity.load(path, options))
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
        self._held = np.zeros(CONTEXT_SAMPLES, np.float32)  # context, undecided, part of a frame
        self._undecided: list[Frame] = []
        self._voiced_run = 0
        self._after = 0  # frames that are speech whatever they hold, from the last one on
        self._meter = Meter()

    @property
    def quality(self) -> Quality:
        """Of the stream so far."""
        return self._meter.quality()

    @property
    def net_speech_s(self) -> float:
        """As in `quality`, and quicker."""
        return self._meter.net_speech_s

    @property
    def total_s(self) -> float:
        """As in `quality`, and quicker."""
        return self._meter.total_s

    def push(self, samples: Samples) -> Samples:
        """The speech `(n,)` now known to be speech, in order, perhaps from earlier pushes."""
        speech: list[Samples] = []
        for start in range(0, len(samples), _BLOCK_SAMPLES):
            block = samples[start : start + _BLOCK_SAMPLES]
            self._meter.hear(block)
            speech += self._take(block)
        return _joined(speech)

    def finish(self) -> Samples:
        """The speech at the end `(n,)`; call once, after the last push."""
        padding = (CONTEXT_SAMPLES - len(self._held)) % FRAME_SAMPLES
        speech = _joined([*self._take(np.zeros(padding, np.float32), padding=padding)])
        self._meter.no_speech(self._undecided)
        return speech

    def _take(self, samples: Samples, *, padding: int = 0) -> Iterator[Samples]:
        """The pieces `(n,)` that are speech now that `samples (n,)` have come, the last `padding`
        of which are not the stream's."""
        held = self._held = np.concatenate([self._held, samples], dtype=np.float32)
        frames = self._undecided
        count = (len(held) - CONTEXT_SAMPLES) // FRAME_SAMPLES - len(frames)
        if not count:
            return
        new = _overlapping(held[len(frames) * FRAME_SAMPLES :], count)
        edges = self._edges(self._heard(new, padding))
        self._held = held[edges[-1] * FRAME_SAMPLES :].copy()
        self._undecided = frames[edges[-1] :]
        signal = held[CONTEXT_SAMPLES : len(held) - padding]
        for stretch, (start, end) in enumerate(itertools.pairwise(edges)):
            if start == end:
                continue
            if stretch % 2:
                piece = signal[start * FRAME_SAMPLES : end * FRAME_SAMPLES]
                self._meter.speech(piece, frames[start:end])
                yield piece
            else:
                self._meter.no_speech(frames[start:end])

    def _heard(self, new: Samples, padding: int) -> Iterator[tuple[int, float]]:
        """Level and probability of speech of each of the frames `new (n, 576)`."""
        probabilities, self._state = self._vad.probabilities(new, self._state)
        measured = levels(new[:, CONTEXT_SAMPLES:], padding=padding)
        return zip(measured, probabilities.tolist(), strict=True)

    def _edges(self, new: Iterable[tuple[int, float]]) -> list[int]:
        """Where speech begins and ends, by turns, among the undecided frames and `new` ones, which
        join them, and at last where they are undecided still."""
        rules, frames = self._bursts, self._undecided
        run, after = self._voiced_run, self._after
        edges = [0, 0] if after else [0]
        for level, probability in new:
            run = run + 1 if probability >= (rules.leave if run else rules.enter) else 0
            frames.append((level, run > 0))
            if run >= rules.min_frames:
                if not after:
                    edges.append(max(edges[-1], len(frames) - run - rules.before_frames))
                after = rules.after_frames + 1
            elif after:
                after -= 1
                if not after:
                    edges.append(len(frames) - 1)
        if after:
            edges.append(len(frames))
        edges.append(max(edges[-1], len(frames) - run - rules.before_frames))
        self._voiced_run, self._after = run, after
        return edges


def _overlapping(signal: Samples, count: int) -> Samples:
    """The first `count` frames `(count, 576)`, each from the end of the one before."""
    shape = (count, CONTEXT_SAMPLES + FRAME_SAMPLES)
    strides = (FRAME_SAMPLES * signal.itemsize, signal.itemsize)
    return np.ascontiguousarray(np.ndarray(shape, signal.dtype, signal, strides=strides))


def _joined(pieces: list[Samples]) -> Samples:
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
