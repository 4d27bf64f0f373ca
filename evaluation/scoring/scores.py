"""Scores: the cosine of each trial and the measures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.scoring import normalization
from evaluation.scoring.embeddings import Voices
from evaluation.scoring.measures import Measures
from evaluation.trials.trials import Model, Trials
from service.contract import Cohort
from service.decisions import scoring

ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class ScoredTrials:
    """The trials that could be scored, their measures, and what could not be.

    `unscored` counts trials lost to a failure to enrol or to acquire; `failure_to_enrol` and
    `failure_to_acquire` are fractions of the models and of the clips that the trials use.
    `same_recording` counts trials left out because the heard clip, byte for byte, is one of the
    model's under another name.
    """

    trials: Trials
    measures: Measures
    unscored: int
    failure_to_enrol: float
    failure_to_acquire: float
    same_recording: int = 0


@dataclass(frozen=True, slots=True)
class EnrolledModels:
    """Every model's voice (models, dim), its net speech (models,), and whether it has one."""

    vectors: NDArray[np.float32]
    speech_s: NDArray[np.float64]
    succeeded: NDArray[np.bool_]


def score(
    trials: Trials, voices: Voices, heard: Voices | None = None, *, cohort: Cohort | None = None
) -> ScoredTrials:
    """Cosine of each trial's enrolled voice and heard embedding, both of `trials.clips`; with a
    `cohort`, after adaptive S-norm against it.

    `heard` are the voices of the test side where they differ from those of the enrolled.
    """
    heard = voices if heard is None else heard
    models = enroll_models(trials, voices)
    copies = find_same_recordings(trials, voices.digests)
    held = models.succeeded[trials.enrol] & heard.acquired[trials.test] & ~copies
    if not (held & trials.target).any() or not (held & ~trials.target).any():
        raise EvaluationError(
            "too few clips hold enough speech: no target or no non-target is left"
        )
    kept = trials if held.all() else trials.select(held)
    plain = measure_cosines(models.vectors, heard.vectors, kept.enrol, kept.test)
    sides = ((models.vectors, kept.enrol), (heard.vectors, kept.test))
    measures = Measures(
        plain if cohort is None else normalization.normalize_by_contract(plain, *sides, cohort),
        models.speech_s[kept.enrol],
        heard.speech_s[kept.test],
        heard.snr_db[kept.test],
    )
    return ScoredTrials(
        kept,
        measures,
        int(np.sum(~held & ~copies)),
        float(np.mean(~models.succeeded[np.unique(trials.enrol)])),
        float(np.mean(~heard.acquired[np.unique(trials.test)])),
        int(copies.sum()),
    )


def find_same_recordings(trials: Trials, digests: Sequence[str]) -> NDArray[np.bool_]:
    """Where the heard clip's bytes are those of a clip of the model with another name, (n,)."""
    copies = np.zeros(len(trials), bool)
    if len(set(digests)) == len(digests):
        return copies
    code = np.unique(digests, return_inverse=True)[1]
    heard = code[trials.test]
    place = [(index, clip) for index, model in enumerate(trials.models) for clip in model.clips]
    own = np.unique([index * len(code) + code[clip] for index, clip in place])
    alike = np.isin(trials.enrol * np.int64(len(code)) + heard, own)
    itself = np.unique([index * len(code) + clip for index, clip in place])
    named = np.isin(trials.enrol * np.int64(len(code)) + trials.test, itself)
    return np.logical_and(alike, ~named)


def measure_cosines(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    enrol: NDArray[np.integer],
    test: NDArray[np.integer],
) -> NDArray[np.float64]:
    """`left[enrol] . right[test]` (n,) of unit rows, some at a time."""
    scores = np.empty(len(enrol))
    for start in range(0, len(enrol), ROWS):
        rows = slice(start, start + ROWS)
        np.einsum("ij,ij->i", left[enrol[rows]], right[test[rows]], out=scores[rows])
    return np.clip(scores, -1.0, 1.0, out=scores)


def enroll_models(trials: Trials, voices: Voices) -> EnrolledModels:
    """The models' voices: a clip's own, or what the service makes of several."""
    first = np.array([model.clips[0] for model in trials.models])
    vectors, speech_s = voices.vectors[first], voices.speech_s[first]
    succeeded = voices.acquired[first]
    for index, model in enumerate(trials.models):
        if len(model.clips) > 1:
            vectors[index], speech_s[index], succeeded[index] = _voice(model, voices)
    return EnrolledModels(vectors, speech_s, succeeded)


def _voice(model: Model, voices: Voices) -> tuple[NDArray[np.float32], float, bool]:
    clips = np.array(model.clips)
    clips = clips[voices.acquired[clips]]
    if not len(clips):
        return voices.vectors[model.clips[0]], 0.0, False
    speech_s = voices.speech_s[clips]
    vector = scoring.voice(voices.vectors[clips], speech_s.astype(np.float32))
    return vector, float(speech_s.sum()), True
