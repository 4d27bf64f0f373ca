"""Scores: the cosine of each trial, and the quality measures that calibration takes with it."""

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
    """The trials that could be scored with their measures, and how many could not.

    `unscored` counts trials lost to a failure to enroll or to acquire; `failure_to_enrol` and
    `failure_to_acquire` are fractions of the models and of the clips that the trials use.
    `same_recording` counts trials left out because the test clip, byte for byte, is one of the
    model's clips under another name.
    """

    trials: Trials
    measures: Measures
    unscored: int
    failure_to_enrol: float
    failure_to_acquire: float
    same_recording: int = 0


@dataclass(frozen=True, slots=True)
class EnrolledModels:
    """Every model's embedding (models, dim), its net speech (models,), and whether it has one."""

    vectors: NDArray[np.float32]
    speech_s: NDArray[np.float64]
    succeeded: NDArray[np.bool_]


def score(
    trials: Trials,
    voices: Voices,
    test_voices: Voices | None = None,
    *,
    cohort: Cohort | None = None,
) -> ScoredTrials:
    """Score each trial by cosine, or by adaptive S-norm against a `cohort`.

    `voices` are those of `trials.clips`; `test_voices` are those of the test side if it was
    treated otherwise. EvaluationError when no target or no non-target trial can be scored.
    """
    test_voices = voices if test_voices is None else test_voices
    models = enroll_models(trials, voices)
    copies = find_same_recordings(trials, voices.digests)
    scorable = models.succeeded[trials.enrol] & test_voices.acquired[trials.test] & ~copies
    if not (scorable & trials.target).any() or not (scorable & ~trials.target).any():
        raise EvaluationError(
            "too few clips hold enough speech: no target or no non-target is left"
        )
    scored = trials if scorable.all() else trials.select(scorable)
    cosine = measure_cosines(models.vectors, test_voices.vectors, scored.enrol, scored.test)
    sides = ((models.vectors, scored.enrol), (test_voices.vectors, scored.test))
    measures = Measures(
        cosine if cohort is None else normalization.normalize_by_contract(cosine, *sides, cohort),
        models.speech_s[scored.enrol],
        test_voices.speech_s[scored.test],
        test_voices.snr_db[scored.test],
    )
    return ScoredTrials(
        scored,
        measures,
        int(np.sum(~scorable & ~copies)),
        float(np.mean(~models.succeeded[np.unique(trials.enrol)])),
        float(np.mean(~test_voices.acquired[np.unique(trials.test)])),
        int(copies.sum()),
    )


def find_same_recordings(trials: Trials, digests: Sequence[str]) -> NDArray[np.bool_]:
    """Mark the trials (n,) whose test clip has the bytes of a clip of the model by another name."""
    copies = np.zeros(len(trials), bool)
    if len(set(digests)) == len(digests):
        return copies
    code = np.unique(digests, return_inverse=True)[1]
    test_code = code[trials.test]
    place = [(index, clip) for index, model in enumerate(trials.models) for clip in model.clips]
    own = np.unique([index * len(code) + code[clip] for index, clip in place])
    alike = np.isin(trials.enrol * np.int64(len(code)) + test_code, own)
    itself = np.unique([index * len(code) + clip for index, clip in place])
    named = np.isin(trials.enrol * np.int64(len(code)) + trials.test, itself)
    return np.logical_and(alike, ~named)


def measure_cosines(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    enrol: NDArray[np.integer],
    test: NDArray[np.integer],
) -> NDArray[np.float64]:
    """`left[enrol] . right[test]` (n,) of unit rows, in blocks that bound the memory."""
    scores = np.empty(len(enrol))
    for start in range(0, len(enrol), ROWS):
        rows = slice(start, start + ROWS)
        np.einsum("ij,ij->i", left[enrol[rows]], right[test[rows]], out=scores[rows])
    return np.clip(scores, -1.0, 1.0, out=scores)


def enroll_models(trials: Trials, voices: Voices) -> EnrolledModels:
    """Enroll the models: a single clip's own embedding, or what the service makes of several."""
    first = np.array([model.clips[0] for model in trials.models])
    vectors, speech_s = voices.vectors[first], voices.speech_s[first]
    succeeded = voices.acquired[first]
    for index, model in enumerate(trials.models):
        if len(model.clips) > 1:
            vectors[index], speech_s[index], succeeded[index] = _enroll(model, voices)
    return EnrolledModels(vectors, speech_s, succeeded)


def _enroll(model: Model, voices: Voices) -> tuple[NDArray[np.float32], float, bool]:
    clips = np.array(model.clips)
    clips = clips[voices.acquired[clips]]
    if not len(clips):
        return voices.vectors[model.clips[0]], 0.0, False
    speech_s = voices.speech_s[clips]
    vector = scoring.average_voice(voices.vectors[clips], speech_s.astype(np.float32))
    return vector, float(speech_s.sum()), True
