"""Edits of voiceprints, and which one counts while one model replaces another.

The vectors of enrollments come first, those of adaptations after them.
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
"""Above this, two embeddings are of one recording. Of 60 pairs of different recordings of one
speaker the most alike had 0.93; a recording shifted by 0.2 s or made quieter has above 0.99 with
itself (median)."""


@dataclass(frozen=True, slots=True)
class ModelSuccession:
    """The models whose voiceprints are accepted, the newest first.

    A speaker is compared with one voiceprint only: that of the newest model with `min_speech_s` of
    net speech or, if none has as much, that of the oldest.
    """

    model_ids: tuple[str, ...]
    min_speech_s: float = 0.0

    def select(self, voiceprints: Mapping[str, Voiceprint]) -> Voiceprint | None:
        """The voiceprint that counts, of those by model id; None if no model is accepted."""
        accepted = [voiceprints[name] for name in self.model_ids if name in voiceprints]
        complete = (each for each in accepted if each.total_speech_s >= self.min_speech_s)
        return next(complete, accepted[-1] if accepted else None)


def add_enrolled(voiceprint: Voiceprint, embedding: Vector, speech_s: float) -> Voiceprint:
    """Add the vector `(dim,)` of an enrollment."""
    return _insert(voiceprint, _count_enrolled(voiceprint), embedding, speech_s)


def add_adapted(voiceprint: Voiceprint, embedding: Vector, speech_s: float) -> Voiceprint:
    """Add the vector `(dim,)` of a call."""
    grown = _insert(voiceprint, len(voiceprint.speech_s), embedding, speech_s)
    return replace(grown, adapted=voiceprint.adapted + 1)


def keep_enrolled(voiceprint: Voiceprint) -> Voiceprint:
    """Drop the vectors of calls, unless there are no others, as after a migration."""
    count = _count_enrolled(voiceprint)
    if not count:
        return voiceprint
    return replace(
        voiceprint,
        vectors=voiceprint.vectors[:count],
        speech_s=voiceprint.speech_s[:count],
        adapted=0,
    )


def drop_outliers(voiceprint: Voiceprint, llr: Llr, *, min_llr: float, keep: int = 0) -> Voiceprint:
    """Drop vectors whose llr against the others is below `min_llr`, the worst first, while more
    than two are left: of two nobody can tell which is the outlier. The first `keep` stay."""
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


def keep_longest(voiceprint: Voiceprint, count: int) -> Voiceprint:
    """Keep the `count` vectors with the most speech, those of enrollments before all others."""
    enrolled = np.arange(len(voiceprint.speech_s)) < _count_enrolled(voiceprint)
    kept = np.sort(np.lexsort((voiceprint.speech_s, enrolled))[-count:])
    adapted = int((~enrolled[kept]).sum())
    return replace(
        voiceprint,
        vectors=voiceprint.vectors[kept],
        speech_s=voiceprint.speech_s[kept],
        adapted=adapted,
    )


def holds_recording(voiceprints: Iterable[Voiceprint], embedding: Vector) -> bool:
    """Whether a vector is of the recording of `embedding (dim,)`, even if louder or shifted."""
    return any(bool((each.vectors @ embedding > _SAME_COSINE).any()) for each in voiceprints)


def _count_enrolled(voiceprint: Voiceprint) -> int:
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
        adapted=voiceprint.adapted - (index >= _count_enrolled(voiceprint)),
    )
