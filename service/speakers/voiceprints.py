"""Voiceprints: how one grows, and which one counts while one model takes over from another.

    enrollment ─> beside the enrolled vectors ─> without outliers ─> the longest, enrolled first
    adaptation ─> like the enrolled vectors alone? ─> after them, in what room they leave

What an adaptation adds never displaces what was enrolled, and is compared with that alone:
otherwise calls that are each a little like the voice would lead it away, step by step.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.store import Voiceprint

Vector: TypeAlias = NDArray[np.float32]
Llr: TypeAlias = Callable[[Voiceprint, Vector, float, float | None], float]
"""The natural-log likelihood ratio of an embedding `(dim,)`, its net speech in seconds and its
SNR in decibels, if known, against a voiceprint."""

_SAME_COSINE = 0.97
"""Of two recordings: the most that 60 pairs of different ones of one speaker reached is 0.93, and
the median of one that was shifted by 0.2 s, or made quieter, with itself is above 0.99."""


@dataclass(frozen=True, slots=True)
class ModelSuccession:
    """The models whose voiceprints are accepted, the newest first.

    A speaker is compared with one of them only: the newest with `min_speech_s` of net speech or, if
    none has as much, the oldest.
    """

    model_ids: tuple[str, ...]
    min_speech_s: float = 0.0

    def select(self, voiceprints: Mapping[str, Voiceprint]) -> Voiceprint | None:
        """The voiceprint that counts, of those by model id; None if none is accepted."""
        accepted = [voiceprints[name] for name in self.model_ids if name in voiceprints]
        complete = (one for one in accepted if one.speech_s.sum() >= self.min_speech_s)
        return next(complete, accepted[-1] if accepted else None)


def with_enrolled(voiceprint: Voiceprint, embedding: Vector, speech_s: float) -> Voiceprint:
    """With the vector `(dim,)` of one more enrollment."""
    return _insert(voiceprint, _enrolled_count(voiceprint), embedding, speech_s)


def with_adapted(voiceprint: Voiceprint, embedding: Vector, speech_s: float) -> Voiceprint:
    """With the vector `(dim,)` of a call."""
    grown = _insert(voiceprint, len(voiceprint.speech_s), embedding, speech_s)
    return replace(grown, adapted=voiceprint.adapted + 1)


def enrolled_part(voiceprint: Voiceprint) -> Voiceprint:
    """What enrollments alone made of it; all of it where they made nothing, as in a move."""
    count = _enrolled_count(voiceprint)
    if not count:
        return voiceprint
    return replace(
        voiceprint,
        vectors=voiceprint.vectors[:count],
        speech_s=voiceprint.speech_s[:count],
        adapted=0,
    )


def without_outliers(
    voiceprint: Voiceprint, llr: Llr, *, min_llr: float, keep: int = 0
) -> Voiceprint:
    """Drops vectors whose llr against the others is below `min_llr`, the worst first, as long
    as more than two are left: of two nobody can say which is the outlier. The first `keep` stay."""
    while len(voiceprint.speech_s) > max(2, keep):
        llrs = {
            i: llr(
                _without(voiceprint, i), voiceprint.vectors[i], float(voiceprint.speech_s[i]), None
            )
            for i in range(keep, len(voiceprint.speech_s))
        }
        worst = min(llrs, key=llrs.__getitem__)
        if llrs[worst] >= min_llr:
            break
        voiceprint = _without(voiceprint, worst)
    return voiceprint


def longest(voiceprint: Voiceprint, count: int) -> Voiceprint:
    """At most `count` vectors: the longest, those of enrollments before all others."""
    enrolled = np.arange(len(voiceprint.speech_s)) < _enrolled_count(voiceprint)
    kept = np.sort(np.lexsort((voiceprint.speech_s, enrolled))[-count:])
    adapted = int((~enrolled[kept]).sum())
    return replace(
        voiceprint,
        vectors=voiceprint.vectors[kept],
        speech_s=voiceprint.speech_s[kept],
        adapted=adapted,
    )


def same_recording(voiceprints: Iterable[Voiceprint], embedding: Vector) -> bool:
    """Whether one of the vectors is of the recording that `embedding (dim,)` is of, even if that is
    louder or shifted."""
    return any(bool((one.vectors @ embedding > _SAME_COSINE).any()) for one in voiceprints)


def _enrolled_count(voiceprint: Voiceprint) -> int:
    return len(voiceprint.speech_s) - voiceprint.adapted


def _insert(voiceprint: Voiceprint, at: int, embedding: Vector, speech_s: float) -> Voiceprint:
    return replace(
        voiceprint,
        vectors=np.insert(voiceprint.vectors, at, embedding, axis=0),  # (n + 1, dim)
        speech_s=np.insert(voiceprint.speech_s, at, np.float32(speech_s)),  # (n + 1,)
    )


def _without(voiceprint: Voiceprint, index: int) -> Voiceprint:
    return replace(
        voiceprint,
        vectors=np.delete(voiceprint.vectors, index, axis=0),
        speech_s=np.delete(voiceprint.speech_s, index),
        adapted=voiceprint.adapted - (index >= _enrolled_count(voiceprint)),
    )
