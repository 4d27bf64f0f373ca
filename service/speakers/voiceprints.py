"""How a voiceprint grows: vectors of enrolments first, those of adaptations after them.

    enrolment ──> beside the enrolled vectors ─> without outliers ─> the longest, enrolled first
    adaptation ─> like the enrolled vectors alone? ─> after them, in what room they leave

What an adaptation adds never displaces what was enrolled, and is held to it: otherwise calls that
are each a little like the voice would lead it away, step by step.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.store import Voiceprint

Vector: TypeAlias = NDArray[np.float32]
LogRatio: TypeAlias = Callable[[Voiceprint, Vector, float, float | None], float]
"""The natural-log likelihood ratio of an embedding `(dim,)`, its net speech in seconds and its
SNR in decibels, where known, against a voiceprint."""

_SAME_COSINE = 0.97
"""Of two recordings: the most that 60 pairs of different ones of one speaker reached is 0.93, and
the median of one that was shifted by 0.2 s, or made quieter, with itself is above 0.99."""


def with_enrolled(held: Voiceprint, heard: Vector, speech_s: float) -> Voiceprint:
    """With the vector `(dim,)` of one more enrolment."""
    return _inserted(held, _enrolled_count(held), heard, speech_s)


def with_adapted(held: Voiceprint, heard: Vector, speech_s: float) -> Voiceprint:
    """With the vector `(dim,)` of a call."""
    grown = _inserted(held, len(held.speech_s), heard, speech_s)
    return replace(grown, adapted=held.adapted + 1)


def enrolled_part(held: Voiceprint) -> Voiceprint:
    """What enrolments alone made of it; all of it where they made nothing, as in a move."""
    count = _enrolled_count(held)
    if not count:
        return held
    return replace(held, vectors=held.vectors[:count], speech_s=held.speech_s[:count], adapted=0)


def without_outliers(
    held: Voiceprint, log_ratio: LogRatio, *, least_llr: float, keep: int = 0
) -> Voiceprint:
    """Drops vectors whose ratio against the others is below `least_llr`, the worst first, as long
    as more than two are left: of two nobody can say which is the outlier. The first `keep` stay."""
    while len(held.speech_s) > max(2, keep):
        ratios = {
            i: log_ratio(_without(held, i), held.vectors[i], float(held.speech_s[i]), None)
            for i in range(keep, len(held.speech_s))
        }
        worst = min(ratios, key=ratios.__getitem__)
        if ratios[worst] >= least_llr:
            break
        held = _without(held, worst)
    return held


def longest(held: Voiceprint, count: int) -> Voiceprint:
    """At most `count` vectors: the longest, those of enrolments before all others."""
    enrolled = np.arange(len(held.speech_s)) < _enrolled_count(held)
    kept = np.sort(np.lexsort((held.speech_s, enrolled))[-count:])
    adapted = int((~enrolled[kept]).sum())
    return replace(held, vectors=held.vectors[kept], speech_s=held.speech_s[kept], adapted=adapted)


def same_recording(held: Iterable[Voiceprint], heard: Vector) -> bool:
    """Whether a vector of these is of the recording that `heard (dim,)` is of, if perhaps louder or
    shifted."""
    return any(bool((each.vectors @ heard > _SAME_COSINE).any()) for each in held)


def _enrolled_count(held: Voiceprint) -> int:
    return len(held.speech_s) - held.adapted


def _inserted(held: Voiceprint, at: int, heard: Vector, speech_s: float) -> Voiceprint:
    return replace(
        held,
        vectors=np.insert(held.vectors, at, heard, axis=0),  # (n + 1, dim)
        speech_s=np.insert(held.speech_s, at, np.float32(speech_s)),  # (n + 1,)
    )


def _without(held: Voiceprint, index: int) -> Voiceprint:
    return replace(
        held,
        vectors=np.delete(held.vectors, index, axis=0),
        speech_s=np.delete(held.speech_s, index),
        adapted=held.adapted - (index >= _enrolled_count(held)),
    )
