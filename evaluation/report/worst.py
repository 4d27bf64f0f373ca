"""The trials that went most wrong: what to listen to first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.trials.manifest import Speaker
from evaluation.trials.trials import Trials


@dataclass(frozen=True, slots=True)
class WorstTrial:
    """One trial, its score, and the files of the enrolment's first clip and of the test."""

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
    return _distinct(trials, scores, np.flatnonzero(~trials.target), -scores, count)


def find_false_non_matches(
    trials: Trials, scores: NDArray[np.float64], count: int = 10
) -> list[WorstTrial]:
    """The targets of lowest score, at most one for each speaker."""
    return _distinct(trials, scores, np.flatnonzero(trials.target), scores, count)


def _distinct(
    trials: Trials,
    scores: NDArray[np.float64],
    candidates: NDArray[np.intp],
    key: NDArray[np.float64],
    count: int,
) -> list[WorstTrial]:
    found: dict[frozenset[Speaker], WorstTrial] = {}
    for index in candidates[np.argsort(key[candidates], kind="stable")]:
        model = trials.models[trials.enrol[index]]
        one, other = trials.clips[model.clips[0]], trials.clips[trials.test[index]]
        pair = frozenset((one.speaker, other.speaker))
        if pair not in found:
            found[pair] = WorstTrial(
                float(scores[index]),
                *(str(one.speaker), str(other.speaker), model.name, other.name),
                *(str(one.file.resolve()), str(other.file.resolve())),
            )
        if len(found) == count:
            break
    return list(found.values())
