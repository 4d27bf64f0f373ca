"""The sequential test on calls: how often it errs, and how soon it decides.

encounters ─> score at every step ─> calibration on other speakers ─> service.decisions.decision

Every trial is judged by a calibration that saw neither of its speakers, fitted on the scores of all
speech so far at every step, as the service makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.encounters import Encounters
from evaluation.errors import EvaluationError
from evaluation.metrics.error_rates import Rate, measure_error_rates
from evaluation.report.assessment import TERMS
from evaluation.scoring import calibration
from service.contract import Calibration
from service.decisions.decision import NOTHING_HEARD, Score, decide_early
from service.decisions.policy import SequentialTest
from service.decisions.thresholds import false_match_threshold

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class JudgedTrials:
    """The LLR (rows,) of every step, and the calibration (trials,) that gave it."""

    encounters: Encounters
    llr: Floats
    by: tuple[Calibration, ...]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """For each trial (trials,): whether it was accepted, and after how much net speech.

    `early` marks those that a bound of the test decided.
    """

    accepted: Flags
    speech_s: Floats
    early: Flags


def judge_trials(
    encounters: Encounters, *, terms: Sequence[str] = TERMS, folds: int = 5
) -> JudgedTrials:
    """Judge each trial by a contract's calibration, fitted on speakers of other folds.

    Raises EvaluationError if there are too few speakers to leave some out.
    """
    sides, of_row = encounters.sides, encounters.trial
    fold = np.random.default_rng(0).permutation(1 + int(sides.speaker.max())) % folds
    pair = np.sort(fold[sides.speaker[np.stack([sides.enrol, sides.test])]], axis=0)
    speakers = (sides.speaker[sides.enrol][of_row], sides.speaker[sides.test][of_row])
    llr = np.empty(len(of_row))
    by: list[Calibration | None] = [None] * len(encounters.first)
    for two in combinations_with_replacement(range(folds), 2):
        own: Flags = np.logical_and(pair[0] == two[0], pair[1] == two[1])
        if not own.any():
            continue
        left_out: Flags = np.logical_or(np.isin(pair[0], two), np.isin(pair[1], two))
        unseen = ~left_out[of_row]
        fitted = calibration.fit_for_contract(
            encounters.measures.select(unseen),
            encounters.target[of_row][unseen],
            (speakers[0][unseen], speakers[1][unseen]),
            terms=terms,
            fitted_on="other speakers",
        )
        llr[own[of_row]] = calibration.apply_calibration(
            fitted, encounters.measures.select(own[of_row])
        )
        for trial in np.flatnonzero(own):
            by[trial] = fitted
    return JudgedTrials(encounters, llr, tuple(one for one in by if one is not None))


def decide_sequentially(judged: JudgedTrials, test: SequentialTest) -> Verdicts:
    """Decide by Wald's bounds.

    A trial undecided at the cap, or at the end of the call, gets the fixed decision for the same
    false-match rate.
    """
    return _verdicts(_decide(judged, trial, test) for trial in range(len(judged.by)))


def decide_at_length(judged: JudgedTrials, false_match_rate: float, speech_s: float) -> Verdicts:
    """Decide at `speech_s` of net speech, or at the end of the call."""
    return _verdicts(
        (*_decide_at(judged, trial, false_match_rate, speech_s), False)
        for trial in range(len(judged.by))
    )


def measure_errors(
    judged: JudgedTrials, wrong: Flags, *, replicates: int = 400, seed: int = 0
) -> tuple[Rate, Rate]:
    """The share of non-target and of target trials that went `wrong` (trials,).

    Raises EvaluationError when there are too few speakers for an interval.
    """
    target = judged.encounters.target
    accepted = np.where(target, ~wrong, wrong).astype(float)
    rates = measure_error_rates(
        accepted, target, judged.encounters.sides, 0.5, replicates=replicates, seed=seed
    )
    if any(rate.interval is None for rate in rates):
        raise EvaluationError("no interval: too few speakers")
    return rates


def _decide(judged: JudgedTrials, trial: int, test: SequentialTest) -> tuple[bool, float, bool]:
    speech_s = judged.encounters.measures.test_speech_s
    for row in range(judged.encounters.first[trial], judged.encounters.last[trial]):
        if speech_s[row] >= test.max_speech_s:
            break
        verdicts = decide_early(Score(0.0, float(judged.llr[row])), test, NOTHING_HEARD, "")
        if verdicts.conclusive:
            return verdicts.outcome.name == "ACCEPTED", float(speech_s[row]), True
    return (*_decide_at(judged, trial, test.false_match_rate, test.max_speech_s), False)


def _decide_at(
    judged: JudgedTrials, trial: int, rate: float, speech_s: float
) -> tuple[bool, float]:
    encounters = judged.encounters
    rows = np.arange(encounters.first[trial], encounters.last[trial] + 1)
    heard_s = encounters.measures.test_speech_s[rows]
    row = rows[min(int(np.searchsorted(heard_s, speech_s)), len(rows) - 1)]
    threshold = false_match_threshold(judged.by[trial], rate)
    return bool(judged.llr[row] >= threshold), float(encounters.measures.test_speech_s[row])


def _verdicts(found: Iterator[tuple[bool, float, bool]]) -> Verdicts:
    accepted, speech_s, early = zip(*found, strict=True)
    return Verdicts(np.array(accepted), np.array(speech_s), np.array(early))
