"""Encounters: calls against enrollments, scored at every step as the service scores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.calls import Caller, Step
from evaluation.metrics.sides import Sides
from evaluation.scoring.measures import Measures
from service.decisions.scoring import Scorer

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Encounters:
    """Trials (trials,) of a call against an enrollment.

    Each trial is the steps `first`..`last` among the rows of `measures` (rows,).
    """

    measures: Measures
    first: Integers
    last: Integers
    target: Flags
    sides: Sides
    corpus: NDArray[np.str_]

    @property
    def trial(self) -> Integers:
        """The trial of each row, (rows,)."""
        return np.repeat(np.arange(len(self.first)), self.last + 1 - self.first)


def pair_calls(callers: Sequence[Caller], scorer: Scorer) -> Encounters:
    """Pair every call with every enrollment of its corpus, and score each step."""
    calls = [(own, steps) for own, caller in enumerate(callers) for steps in caller.calls]
    pairs = [
        (enrol, test)
        for enrol, caller in enumerate(callers)
        for test, (own, _) in enumerate(calls)
        if callers[own].speaker.corpus == caller.speaker.corpus
    ]
    enrol, test = np.array(pairs).T
    steps = [step for _, heard in calls for step in heard]
    ends = np.cumsum([len(heard) for _, heard in calls])
    starts = np.append(0, ends[:-1])
    lengths = (ends - starts)[test]
    last = np.cumsum(lengths) - 1
    rows = np.concatenate([np.arange(starts[one], ends[one]) for one in test])  # of the steps
    sides = np.repeat(enrol, lengths)  # of the enrolments
    enrolled = [caller.enrolled for caller in callers]
    caller_of_call = np.array([own for own, _ in calls])
    return Encounters(
        Measures(
            _scores(enrolled, steps, scorer)[sides, rows],
            np.array([one.speech_s for one in enrolled])[sides],
            np.array([step.speech_s for step in steps])[rows],
            np.array([step.snr_db for step in steps])[rows],
        ),
        last + 1 - lengths,
        last,
        caller_of_call[test] == enrol,
        Sides(enrol, len(callers) + test, np.append(np.arange(len(callers)), caller_of_call)),
        np.array([caller.speaker.corpus for caller in callers])[enrol],
    )


def _scores(enrolled: Sequence[Step], heard: Sequence[Step], scorer: Scorer) -> Floats:
    """Scores (enrolments, steps) as the calibration's, normalised where the scorer does."""
    left, right = (np.stack([step.embedding for step in side]) for side in (enrolled, heard))
    cosines = (left @ right.T).astype(np.float64)
    by_enrolled = _standings(scorer, left)(cosines.T).T
    by_heard = _standings(scorer, right)(cosines)
    scores: Floats = (by_enrolled + by_heard) / 2
    return scores


@dataclass(frozen=True, slots=True)
class _Standings:
    """Means and deviations (n,) of many voices' highest cosines with the cohort."""

    mean: Floats
    deviation: Floats

    def __call__(self, cosines: Floats) -> Floats:
        """Cosines (m, n) with each of the voices, in deviations from its mean."""
        normalised: Floats = (cosines - self.mean) / self.deviation
        return normalised


def _standings(scorer: Scorer, vectors: NDArray[np.float32]) -> _Standings:
    found = scorer.all_statistics(vectors)
    return _Standings(
        np.array([one.mean for one in found]), np.array([one.deviation for one in found])
    )
