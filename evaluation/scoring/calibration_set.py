"""Trials at several lengths of the heard side, and in several conditions, so that a calibration
knows a call's first seconds as well as its whole, and impostors on the owner's kind of line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.degrade.conditions import Condition, Degradation
from evaluation.degrade.impairments import CLEAN, Impaired
from evaluation.errors import EvaluationError
from evaluation.metrics.sides import Sides
from evaluation.scoring import embeddings, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.embeddings import System, Voices
from evaluation.scoring.measures import Measures
from evaluation.scoring.scores import ScoredTrials
from evaluation.trials.trials import Trials
from service.audio.speech import VoiceActivity
from service.contract import Cohort

LENGTHS_S = (1.0, 2.0, 3.0, 5.0, None)

Speakers = tuple[NDArray[np.integer], NDArray[np.integer]]


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Trials with their measures, truth (n,), sides, and the length asked of each (n,), which is
    infinite where the heard side is whole, as in every condition; `whole` are the clips' voices as
    recorded."""

    measures: Measures
    target: NDArray[np.bool_]
    sides: Sides
    length_s: NDArray[np.float64]
    whole: Voices

    @property
    def speakers(self) -> Speakers:
        """The enrolled and the heard speaker of each trial, for `calibration.for_contract`."""
        return self.sides.speaker[self.sides.enrol], self.sides.speaker[self.sides.test]


async def build_calibration_set(
    system: System,
    asked: Trials,
    cache: Cache,
    *,
    lengths_s: Sequence[float | None] = LENGTHS_S,
    conditions: Sequence[str] = (),
    cohort: Cohort | None = None,
    limit: int = 1_000_000,
    seed: int = 0,
) -> CalibrationSet:
    """The trials with the first seconds of net speech heard, at each of `lengths_s`, and whole in
    each of the impairments `conditions`, on the heard side and on both.

    Enrolment is always whole; None is the whole heard side too. A clip that holds no more than a
    length is left out of it. Of each of these an equal share of `limit` trials is drawn by `seed`.
    A `cohort` normalises the scores. EvaluationError when no length has trials of both kinds.
    """
    treatments = {name: Impaired(name, seed) for name in conditions if name != CLEAN}
    share = limit // (len(lengths_s) + 2 * len(treatments))
    vad = VoiceActivity.open()
    whole = await embeddings.embed(system, asked.clips, cache, label="whole clips")
    parts = []
    for length_s in lengths_s:
        longer = whole.acquired if length_s is None else whole.speech_s > length_s
        if not _both_kinds(asked, longer):
            continue
        heard = whole
        if length_s is not None:
            heard = await embeddings.embed(
                system,
                asked.clips,
                cache,
                treatment=Degradation(Condition(length_s), vad),
                wanted=longer,
                label=f"first {length_s:g} s",
            )
        kept = _drawn(asked, longer[asked.test], share, seed)
        parts.append((scores.score(kept, whole, heard, cohort=cohort), length_s))
    if not parts:
        raise EvaluationError("no length has target and non-target trials: clips are too short")
    kept = _drawn(asked, np.ones(len(asked), bool), share, seed)
    for name, treatment in treatments.items():
        impaired = await embeddings.embed(
            system, asked.clips, cache, treatment=treatment, label=name
        )
        for enrolled in (whole, impaired):
            parts.append((scores.score(kept, enrolled, impaired, cohort=cohort), None))
    return _joined(asked, parts, whole)


def _both_kinds(asked: Trials, longer: NDArray[np.bool_]) -> bool:
    target = asked.target[longer[asked.test]]
    return bool(target.any() and not target.all())


def _joined(
    asked: Trials, parts: Sequence[tuple[ScoredTrials, float | None]], whole: Voices
) -> CalibrationSet:
    held = [scored.trials for scored, _ in parts]
    together = Trials(
        asked.models,
        asked.clips,
        np.concatenate([trials.enrol for trials in held]),
        np.concatenate([trials.test for trials in held]),
        np.concatenate([trials.target for trials in held]),
    )
    return CalibrationSet(
        Measures.joined([scored.measures for scored, _ in parts]),
        together.target,
        together.sides(),
        np.concatenate(
            [
                np.full(len(scored.trials), np.inf if length_s is None else length_s)
                for scored, length_s in parts
            ]
        ),
        whole,
    )


def _drawn(asked: Trials, keep: NDArray[np.bool_], limit: int, seed: int) -> Trials:
    """At most `limit` of the trials marked in `keep`: all targets first, then non-targets."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(keep))
    order = order[np.argsort(~asked.target[order], kind="stable")]
    targets = min(int(asked.target[order].sum()), limit // 2)
    others = order[~asked.target[order]][: limit - targets]
    return asked.select(np.sort(np.concatenate([order[:targets], others])))
