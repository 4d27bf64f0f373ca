"""The worst errors: the trials to listen to first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.trials.manifest import Speaker
from evaluation.trials.trials import Trials


@dataclass(frozen=True, slots=True)
class WorstTrial:
    """A row of the report: one trial with its score, and files of both sides to listen to."""

    score: float
    enrol_speaker: str
    test_speaker: str
    enrol: str
    test: str
    enrol_file: str
    test_file: str


def find_false_matches(
    trials: Trials, scores: NDArray[np.float64], count: int = 10
) -> list[WorstTrial]:
    """The non-targets of highest score, at most one for each pair of speakers."""
    return _pick_distinct(trials, scores, np.flatnonzero(~trials.target), -scores, count)


def find_false_non_matches(
    trials: Trials, scores: NDArray[np.float64], count: int = 10
) -> list[WorstTrial]:
    """The targets of lowest score, at most one for each speaker."""
    return _pick_distinct(trials, scores, np.flatnonzero(trials.target), scores, count)


def _pick_distinct(
    trials: Trials,
    scores: NDArray[np.float64],
    candidates: NDArray[np.intp],
    key: NDArray[np.float64],
    count: int,
) -> list[WorstTrial]:
    worst: dict[frozenset[Speaker], WorstTrial] = {}
    for index in candidates[np.argsort(key[candidates], kind="stable")]:
        model = trials.models[trials.enrol[index]]
        one, other = trials.clips[model.clips[0]], trials.clips[trials.test[index]]
        pair = frozenset((one.speaker, other.speaker))
        if pair not in worst:
            worst[pair] = WorstTrial(
                float(scores[index]),
                *(str(one.speaker), str(other.speaker), model.name, other.name),
                *(str(one.file.resolve()), str(other.file.resolve())),
            )
        if len(worst) == count:
            break
    return list(worst.values())
