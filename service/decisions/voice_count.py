"""Voice count: find out whether two people talk in one recording.

The mean cosine between windows hides a second voice, as most pairs of windows are of one person. So
short windows are split into the two groups that differ most (spherical k-means, Dhillon and Modha
2001), and the two groups are compared like two recordings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]

_MOST_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Parts:
    """The two parts of a recording: the cosine between their means, and the share of windows in the
    first."""

    cosine: float
    share: float


def split_voices(embeddings: Sequence[NDArray[np.float32]]) -> Parts | None:
    """Split windows by their L2-normalized `embeddings (n, dim)`; None if there are fewer than two
    windows, or if all are alike."""
    if len(embeddings) < 2:
        return None
    vectors = np.stack(embeddings).astype(np.float64)
    first = _guess_split(vectors)
    for _ in range(_MOST_ROUNDS):
        if first.all() or not first.any():
            return None
        mean, other_mean = _mean(vectors[first]), _mean(vectors[~first])
        closer = vectors @ mean > vectors @ other_mean
        if np.array_equal(closer, first):
            break
        first = closer
    if first.all() or not first.any():
        return None
    mean, other_mean = _mean(vectors[first]), _mean(vectors[~first])
    return Parts(float(mean @ other_mean), float(first.mean()))


def _guess_split(vectors: Vectors) -> NDArray[np.bool_]:
    """Split by the sign along the direction in which the vectors differ most."""
    sides: Vectors = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[0]
    return sides[:, 0] > 0


def _mean(vectors: Vectors) -> Vectors:
    """Return the L2-normalized mean `(dim,)` of `vectors (n, dim)`."""
    total = vectors.sum(axis=0)
    mean: Vectors = total / max(float(np.linalg.norm(total)), 1e-12)
    return mean
