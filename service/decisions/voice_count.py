"""Parts: whether a recording falls into two that sound unlike each other, as when two people talk.

The mean cosine between windows hides a second voice: most pairs are of one person. So short windows
are split in two as well as they can be (spherical k-means, Dhillon and Modha 2001), and the two
sides are compared like two recordings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]

_MOST_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Parts:
    """The cosine between the means of the two parts, and the share of windows in the first."""

    cosine: float
    share: float


def split(embeddings: Sequence[NDArray[np.float32]]) -> Parts | None:
    """The best split of the windows' L2-normalized `embeddings (n, dim)`; None of fewer than two,
    or of windows that are all alike."""
    if len(embeddings) < 2:
        return None
    vectors = np.stack(embeddings).astype(np.float64)
    first = _first_guess(vectors)
    for _ in range(_MOST_ROUNDS):
        if first.all() or not first.any():
            return None
        one, other = _mean(vectors[first]), _mean(vectors[~first])
        closer = vectors @ one > vectors @ other
        if np.array_equal(closer, first):
            break
        first = closer
    if first.all() or not first.any():
        return None
    one, other = _mean(vectors[first]), _mean(vectors[~first])
    return Parts(float(one @ other), float(first.mean()))


def _first_guess(vectors: Vectors) -> NDArray[np.bool_]:
    """Either side of the direction in which they differ most."""
    sides: Vectors = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[0]
    return sides[:, 0] > 0


def _mean(vectors: Vectors) -> Vectors:
    total = vectors.sum(axis=0)
    mean: Vectors = total / max(float(np.linalg.norm(total)), 1e-12)
    return mean
