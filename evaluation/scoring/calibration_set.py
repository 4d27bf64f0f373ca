"""Trials to fit a calibration on: several lengths of the test side, and several conditions.

So a calibration knows the first seconds of a call as well as the whole, and impostors on the same
kind of line as the enrolled speaker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.degrade.conditions import Condition, Degradation
from evaluation.degrade.impairments import CLEAN, Impaired
from evaluation.errors import EvaluationError
from evaluation.metrics.sides import Sides, Speakers
from evaluation.scoring import embeddings, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.embeddings import System, Voices
from evaluation.scoring.measures import Measures
from evaluation.scoring.scores import ScoredTrials
from evaluation.trials.trials import Trials
from service.audio.speech import VoiceActivity
from service.contract import Cohort

LENGTHS_S = (1.0, 2.0, 3.0, 5.0, None)


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Trials with their measures, truth (n,) and sides.

    `length_s` (n,) is the length asked of the test side, infinite where it is whole, as it is in
    every condition; `whole` are the clips' voices as recorded.
    """

    measures: Measures
    target: NDArray[np.bool_]
    sides: Sides
    length_s: NDArray[np.float64]
    whole: Voices

    @property
    def speakers(self) -> Speakers:
        """The enrolled and the test speaker of each trial, for `calibration.fit_for_contract`."""
        return self.sides.speakers


async def build_calibration_set(
    system: System,
    trials: Trials,
    cache: Cache,
    *,
    lengths_s: Sequence[float | None] = LENGTHS_S,
    conditions: Sequence[str] = (),
    cohort: Cohort | None = None,
    limit: int = 1_000_000,
    seed: int = 0,
) -> CalibrationSet:
    """Score the trials at each length of the test side, and whole in each of the conditions.

    A length is the first seconds of net speech, None all of it; a clip with no more speech than a
    length is left out of it, and enrollment is always whole. A condition impairs the test side,
    and then both. Each length and each condition gets an equal share of `limit` trials, drawn by
    `seed`. A `cohort` normalizes the scores. EvaluationError when no length has trials of both
    kinds.
    """
    treatments = {name: Impaired(name, seed) for name in conditions if name != CLEAN}
    share = limit // (len(lengths_s) + 2 * len(treatments))
    whole = await embeddings.embed(system, trials.clips, cache, label="whole clips")
    parts = []
    async for head in embed_heads(system, trials, whole, cache, lengths_s):
        drawn = _draw(trials, head.longer[trials.test], share, seed)
        parts.append((scores.score(drawn, whole, head.voices, cohort=cohort), head.length_s))
    if not parts:
        raise EvaluationError("no length has target and non-target trials: clips are too short")
    drawn = _draw(trials, np.ones(len(trials), bool), share, seed)
    for name, treatment in treatments.items():
        impaired = await embeddings.embed(
            system, trials.clips, cache, treatment=treatment, label=name
        )
        for enrolled in (whole, impaired):
            parts.append((scores.score(drawn, enrolled, impaired, cohort=cohort), None))
    return _join(trials, parts, whole)


@dataclass(frozen=True, slots=True)
class Head:
    """The voices of the clips' first `length_s` of net speech (None: all of it), where `longer`
    (clips,) says that there is more."""

    length_s: float | None
    longer: NDArray[np.bool_]
    voices: Voices


async def embed_heads(
    system: System,
    trials: Trials,
    whole: Voices,
    cache: Cache,
    lengths_s: Sequence[float | None],
) -> AsyncIterator[Head]:
    """Embed the test clips' first seconds at each length that has trials of both kinds."""
    vad = VoiceActivity.open()
    for length_s in lengths_s:
        longer = whole.acquired if length_s is None else whole.speech_s > length_s
        if not _has_both_kinds(trials, longer):
            continue
        voices = whole
        if length_s is not None:
            voices = await embeddings.embed(
                system,
                trials.clips,
                cache,
                treatment=Degradation(Condition(length_s), vad),
                wanted=longer,
                label=f"first {length_s:g} s",
            )
        yield Head(length_s, longer, voices)


def _has_both_kinds(trials: Trials, longer: NDArray[np.bool_]) -> bool:
    target = trials.target[longer[trials.test]]
    return bool(target.any() and not target.all())


def _join(
    trials: Trials, parts: Sequence[tuple[ScoredTrials, float | None]], whole: Voices
) -> CalibrationSet:
    joined = Trials(
        trials.models,
        trials.clips,
        np.concatenate([scored.trials.enrol for scored, _ in parts]),
        np.concatenate([scored.trials.test for scored, _ in parts]),
        np.concatenate([scored.trials.target for scored, _ in parts]),
    )
    lengths_s = [
        np.full(len(scored.trials), np.inf if length_s is None else length_s)
        for scored, length_s in parts
    ]
    return CalibrationSet(
        Measures.join([scored.measures for scored, _ in parts]),
        joined.target,
        joined.sides(),
        np.concatenate(lengths_s),
        whole,
    )


def _draw(trials: Trials, keep: NDArray[np.bool_], limit: int, seed: int) -> Trials:
    """At most `limit` of the trials marked in `keep`: up to half targets, the rest non-targets."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(keep))
    order = order[np.argsort(~trials.target[order], kind="stable")]
    targets = min(int(trials.target[order].sum()), limit // 2)
    others = order[~trials.target[order]][: limit - targets]
    return trials.select(np.sort(np.concatenate([order[:targets], others])))
