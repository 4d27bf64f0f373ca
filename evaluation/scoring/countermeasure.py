"""Scores of clips by a countermeasure in a model file.

clip ─ treatment (recorded, telephone) ─ first seconds ─ windows ─> graph ─> mean logit
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import soxr
from numpy.typing import NDArray

from evaluation.degrade.channels import TELEPHONE, CrossChannel
from evaluation.errors import EvaluationError
from evaluation.trials.spoof_keys import KeyedClip
from service.audio import windows

Samples = NDArray[np.float32]

RECORDED, LINE = "recorded", "telephone"
CHANNELS = (RECORDED, LINE)
INPUT = "waveform"
SUFFIXES = ("", ".flac", ".wav", ".opus", ".ogg")


@dataclass(frozen=True, slots=True)
class Countermeasure:
    """A graph from `waveform (batch, window_samples)` to a logit of bona fide, (batch,)."""

    session: onnxruntime.InferenceSession
    rate_hz: int
    window_samples: int
    hop_samples: int

    @classmethod
    def open(cls, model: Path, *, window_s: float, rate_hz: int = 16000) -> Countermeasure:
        """Open a model file; EvaluationError if it is no graph that starts at a waveform.

        A graph of a fixed length has its window in its input; `window_s` is for the others.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no narrower base
            raise EvaluationError(f"{model} cannot be loaded: {error}") from error
        source = session.get_inputs()[0]
        if source.name != INPUT:
            raise EvaluationError(f"{model} starts at {source.name}, not at a waveform")
        fixed = source.shape[1]
        window = fixed if isinstance(fixed, int) else round(window_s * rate_hz)
        return cls(session, rate_hz, window, max(1, window // 2))

    def score(self, speech: Samples) -> float:
        """The mean logit of the windows of `speech` (n,), which is not empty."""
        cut = windows.cut(speech, window_samples=self.window_samples, hop_samples=self.hop_samples)
        logits = [self.session.run(None, {INPUT: window[None]})[0] for window in cut]
        return float(np.mean(logits))


def score_clips(
    model: Countermeasure,
    clips: Sequence[KeyedClip],
    folder: Path,
    *,
    channel: str = RECORDED,
    seconds: float | None = None,
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Score every clip, found by its name below `folder`, through a channel.

    `telephone` draws a line for each clip (`evaluation.degrade.channels.TELEPHONE`: room, noise,
    handset, narrow band, mu-law or GSM). Only the first `seconds` are heard if given. Raises
    EvaluationError if a clip is missing, broken or empty.
    """
    line = CrossChannel(seed, "test", TELEPHONE)
    scores = {}
    for clip in clips:
        speech = read_speech(_find(folder, clip.name), model.rate_hz)
        if seconds is not None:
            speech = speech[: round(seconds * model.rate_hz)]
        if channel == LINE:
            speech = line(clip.name, speech, model.rate_hz)
        scores[clip.name] = model.score(speech)
        advance()
    return scores


def read_speech(path: Path, rate_hz: int) -> Samples:
    """Mono (n,) float32 at `rate_hz`; EvaluationError if the file is broken or empty."""
    try:
        speech, own_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
    if not len(speech):
        raise EvaluationError(f"{path} is empty")
    return np.asarray(soxr.resample(speech.mean(axis=1), own_hz, rate_hz), np.float32)


def _find(folder: Path, name: str) -> Path:
    for suffix in SUFFIXES:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return path
    raise EvaluationError(f"{folder / name} is missing; --audio names the folder of the clips")
