"""Score normalization against a cohort of other speakers.

Z    by how the enrolled voice scores against the cohort   (Li & Porter 1988)
T    by how the test clip does                             (Auckenthaler et al. 2000)
S    the mean of both                                      (Kenny 2010)
AS   S with the `top_n` cohort members nearest to each side (Matejka et al. 2017)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from evaluation.scoring.embeddings import Voices
from evaluation.trials.manifest import Clip, speaker_numbers
from service.contract import Cohort
from service.decisions.scoring import cohort_statistics, cohort_vectors, l2_normalize

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Side = tuple[Vectors, NDArray[np.integer]]  # vectors (u, dim), and each trial's row in them (n,)

ROWS = 4096


class Norm(Enum):
    """Which sides are normalized, and by how much of the cohort."""

    Z = "z"
    T = "t"
    S = "s"
    AS = "as"


@dataclass(frozen=True, slots=True)
class CohortStatistics:
    """Mean and deviation (n,) of each vector's scores against the cohort."""

    mean: Floats
    deviation: Floats


def build_cohort(clips: Sequence[Clip], voices: Voices) -> Vectors:
    """One unit vector (speakers, dim) for each speaker: the mean of its acquired clips."""
    owner = speaker_numbers(clips)
    total = np.zeros((owner.max() + 1, voices.vectors.shape[1]))
    np.add.at(total, owner[voices.acquired], voices.vectors[voices.acquired])
    return l2_normalize(total[np.any(total != 0, axis=1)].astype(np.float32))


def make_contract_cohort(vectors: Vectors, *, top_n: int, source: str) -> Cohort:
    """Pack a cohort (count, dim) as a model's contract carries it."""
    return Cohort(vectors.astype("<f4").tobytes(), len(vectors), min(top_n, len(vectors)), source)


def measure_cohort(vectors: Vectors, others: Vectors, top_n: int | None = None) -> CohortStatistics:
    """Statistics of `vectors` (n, dim) over all, or `top_n`, scores against `others` (c, dim)."""
    count = len(others) if top_n is None else min(top_n, len(others))
    mean, deviation = np.empty(len(vectors)), np.empty(len(vectors))
    for start in range(0, len(vectors), ROWS):
        rows = slice(start, start + ROWS)
        mean[rows], deviation[rows] = cohort_statistics(vectors[rows], others, count)
    return CohortStatistics(mean, deviation)


def normalize_by_contract(scores: Floats, enrol: Side, test: Side, cohort: Cohort) -> Floats:
    """Normalize `scores` (n,) by adaptive S-norm, as the service does with this cohort."""
    others = cohort_vectors(cohort)
    return normalize(Norm.AS, scores, enrol, test, others, top_n=cohort.top_n)


def normalize(
    norm: Norm,
    scores: Floats,
    enrol: Side,
    test: Side,
    others: Vectors,
    *,
    top_n: int = 100,
) -> Floats:
    """Normalize `scores` (n,) against the cohort `others` (c, dim)."""
    nearest = top_n if norm is Norm.AS else None
    sides = {Norm.Z: (enrol,), Norm.T: (test,)}.get(norm, (enrol, test))
    total = np.zeros(len(scores))
    for vectors, rows in sides:
        cohort_scores = measure_cohort(vectors, others, nearest)
        total += (scores - cohort_scores.mean[rows]) / cohort_scores.deviation[rows]
    return total / len(sides)
