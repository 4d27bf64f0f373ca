"""Speech: find where someone talks, piece by piece.

    samples -> frames of 32 ms -> probability of speech -> segmentation -> speech samples
                        └---------------- raw signal --------------------> quality

Voice activity is Silero's 16 kHz model, https://github.com/snakers4/silero-vad, which
`voice_activity` opens.
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
from service.audio.quality import Frame, Quality, QualityMeter, Samples, measure_levels
from service.errors import StartupError

FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64

State = tuple[NDArray[np.float32], NDArray[np.float32]]

_STATE_SHAPE = (1, 1, 128)
_LEAD_IN_FRAMES = 2
_BLOCK_SAMPLES = 512 * FRAME_SAMPLES


class VoiceActivity:
    """Silero's recurrent model; one instance serves every stream and thread.

    A stream starts from `initial_state`, the state after a moment of silence: from the zero state
    the model misses speech at the very beginning.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        zero = np.zeros(_STATE_SHAPE, np.float32)
        silence = np.zeros((_LEAD_IN_FRAMES, CONTEXT_SAMPLES + FRAME_SAMPLES), np.float32)
        _, self.initial_state = self.estimate_speech(silence, (zero, zero))

    @classmethod
    def open(cls, path: Path | None = None, *, threads: int = 1) -> Self:
        """Load the model at `path`, by default Silero's; raises `StartupError`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if path is None:
            return cls(voice_activity.open_session(options))
        try:
            return cls(voice_activity.load_session(path, options))
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise StartupError(f"{path} is no model of voice activity ({error})") from error

    def estimate_speech(self, frames: Samples, state: State) -> tuple[Samples, State]:
        """Return the probability of speech `(n,)` in consecutive `frames (n, 576)`, and the next
        state.

        A frame is 512 samples, preceded by the 64 before them.
        """
        hidden, cell = state
        outputs = self._session.run(
            ["speech_probs", "hn", "cn"], {"input": frames, "h": hidden, "c": cell}
        )
        probabilities, hidden, cell = cast("Sequence[Samples]", outputs)
        return probabilities, (hidden, cell)


@dataclass(frozen=True, slots=True)
class SpeechSegmentation:
    """What counts as speech: at least `min_frames` in a row, the first with a probability of at
    least `enter` and the others of `leave`, and a few frames before and after them."""

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
    """Return the speech in `samples (n,)` at 16 kHz, with the quality of all of them."""
    detector = SpeechDetector(vad)
    speech = np.concatenate([detector.push(samples), detector.finish()])
    return Speech(speech, detector.quality)


class SpeechDetector:
    """Finds the speech of one stream at 16 kHz; any chunking gives the same speech, bit for bit."""

    def __init__(self, vad: VoiceActivity, segmentation: SpeechSegmentation | None = None) -> None:
        self._vad = vad
        self._state = vad.initial_state
        self._segmentation = segmentation or SpeechSegmentation()
        self._buffer = np.zeros(CONTEXT_SAMPLES, np.float32)  # context, undecided, part of a frame
        self._undecided_frames: list[Frame] = []
        self._voiced_run = 0
        self._frames_to_keep = 0  # frames after speech that count as speech
        self._meter = QualityMeter()

    @property
    def quality(self) -> Quality:
        """The quality of the stream so far."""
        return self._meter.quality()

    @property
    def net_speech_s(self) -> float:
        """As in `quality`, but quick to read."""
        return self._meter.net_speech_s

    @property
    def total_s(self) -> float:
        """As in `quality`, but quick to read."""
        return self._meter.total_s

    def push(self, samples: Samples) -> Samples:
        """Return the next speech `(n,)`; some of it may be of earlier pushes."""
        speech: list[Samples] = []
        for start in range(0, len(samples), _BLOCK_SAMPLES):
            block = samples[start : start + _BLOCK_SAMPLES]
            self._meter.add(block)
            speech += self._detect(block)
        return _concatenate(speech)

    def finish(self) -> Samples:
        """Return the last speech `(n,)`; call once, after the last push."""
        padding = (CONTEXT_SAMPLES - len(self._buffer)) % FRAME_SAMPLES
        speech = _concatenate([*self._detect(np.zeros(padding, np.float32), padding=padding)])
        self._meter.add_pause(self._undecided_frames)
        return speech

    def _detect(self, samples: Samples, *, padding: int = 0) -> Iterator[Samples]:
        """Yield the pieces `(n,)` that are speech once `samples (n,)` have come. Their last
        `padding` samples are not the stream's."""
        buffer = self._buffer = np.concatenate([self._buffer, samples], dtype=np.float32)
        frames = self._undecided_frames
        count = (len(buffer) - CONTEXT_SAMPLES) // FRAME_SAMPLES - len(frames)
        if not count:
            return
        new = _overlap(buffer[len(frames) * FRAME_SAMPLES :], count)
        edges = self._find_edges(self._measure(new, padding))
        self._buffer = buffer[edges[-1] * FRAME_SAMPLES :].copy()
        self._undecided_frames = frames[edges[-1] :]
        signal = buffer[CONTEXT_SAMPLES : len(buffer) - padding]
        for stretch, (start, end) in enumerate(itertools.pairwise(edges)):
            if start == end:
                continue
            if stretch % 2:
                piece = signal[start * FRAME_SAMPLES : end * FRAME_SAMPLES]
                self._meter.add_speech(piece, frames[start:end])
                yield piece
            else:
                self._meter.add_pause(frames[start:end])

    def _measure(self, new: Samples, padding: int) -> Iterator[tuple[int, float]]:
        """Return the level and the probability of speech of each of the frames `new (n, 576)`."""
        probabilities, self._state = self._vad.estimate_speech(new, self._state)
        levels = measure_levels(new[:, CONTEXT_SAMPLES:], padding=padding)
        return zip(levels, probabilities.tolist(), strict=True)

    def _find_edges(self, new: Iterable[tuple[int, float]]) -> list[int]:
        """Add `new` frames to the undecided ones, and return where among them speech begins and
        ends, by turns. The last edge is where they are still undecided."""
        rules, frames = self._segmentation, self._undecided_frames
        run, after = self._voiced_run, self._frames_to_keep
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
        self._voiced_run, self._frames_to_keep = run, after
        return edges


def _overlap(signal: Samples, count: int) -> Samples:
    """Return the first `count` frames `(count, 576)`, which overlap by the context."""
    shape = (count, CONTEXT_SAMPLES + FRAME_SAMPLES)
    strides = (FRAME_SAMPLES * signal.itemsize, signal.itemsize)
    return np.ascontiguousarray(np.ndarray(shape, signal.dtype, signal, strides=strides))


def _concatenate(pieces: list[Samples]) -> Samples:
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
