"""Back-ends between embedding and score, fitted on embeddings of known speakers.

Mean subtraction, whitening and LDA are one affine map and a new unit length, so that an exporter
can put them into the graph. PLDA scores in its own way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from service.decisions.scoring import l2_normalized

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Speakers = NDArray[np.integer]

SHRINKAGE = 0.1
FLOOR = 1e-6
EM_STEPS = 10
ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Projection:
    """`l2_normalised((x - mean) @ matrix)`: mean (dim,), matrix (dim, kept)."""

    mean: Floats
    matrix: Floats

    def __call__(self, vectors: Vectors) -> Vectors:
        """Unit rows (n, kept) of `vectors` (n, dim)."""
        return l2_normalized(((vectors - self.mean) @ self.matrix).astype(np.float32))


def fit_mean_subtraction(vectors: Vectors) -> Projection:
    """Centred on the mean of `vectors` (n, dim)."""
    return Projection(vectors.mean(axis=0, dtype=np.float64), np.eye(vectors.shape[1]))


def fit_whitening(vectors: Vectors) -> Projection:
    """Centred, decorrelated and of equal variance; the covariance is shrunk towards a sphere."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    return Projection(mean, _inverse_root(_shrunk(np.cov(vectors.T.astype(np.float64)))))


def fit_lda(vectors: Vectors, speakers: Speakers, kept: int) -> Projection:
    """The `kept` directions of largest variance between speakers over that within them."""
    spread = _spread(vectors, speakers)
    white = _inverse_root(_shrunk(spread.within))
    values, directions = np.linalg.eigh(white @ spread.between @ white)
    return Projection(spread.mean, white @ directions[:, np.argsort(values)[::-1][:kept]])


@dataclass(frozen=True, slots=True)
class Plda:
    """Two-covariance PLDA (Brümmer & de Villiers 2010), in a space where all that varies within
    a speaker has variance 1 and speakers vary by `between` (dim,)."""

    mean: Floats
    matrix: Floats
    between: Floats

    def scores(
        self,
        left: Vectors,
        right: Vectors,
        enrol: NDArray[np.integer],
        test: NDArray[np.integer],
    ) -> Floats:
        """Natural-log likelihood ratio (n,) that rows `enrol` and `test` are one speaker's."""
        one, other = (left - self.mean) @ self.matrix, (right - self.mean) @ self.matrix
        total, same = self.between + 1, 2 * self.between + 1
        square, cross = 0.5 / total - 0.5 * total / same, self.between / same
        constant = float(np.sum(np.log(total) - 0.5 * np.log(same)))
        own, others = one**2 @ square, other**2 @ square
        scores: Floats = constant + own[enrol] + others[test]
        for start in range(0, len(enrol), ROWS):
            rows = slice(start, start + ROWS)
            scores[rows] += np.einsum("ij,ij->i", one[enrol[rows]] * cross, other[test[rows]])
        return scores


def fit_plda(vectors: Vectors, speakers: Speakers) -> Plda:
    """Fitted by expectation-maximisation, from the moments of `vectors` (n, dim)."""
    spread = _spread(vectors, speakers)
    centred = vectors - spread.mean
    sums = np.zeros((len(spread.counts), vectors.shape[1]))
    np.add.at(sums, spread.owner, centred)
    within, between = _shrunk(spread.within), _shrunk(spread.between)
    for _ in range(EM_STEPS):
        within, between = _em_step(centred, sums, spread, within, between)
    white = _inverse_root(within)
    values, directions = np.linalg.eigh(white @ between @ white)
    return Plda(spread.mean, white @ directions, np.maximum(values, 0))


@dataclass(frozen=True, slots=True)
class _Spread:
    """Moments: covariance within and between speakers, and who has how many vectors."""

    mean: Floats
    within: Floats
    between: Floats
    owner: Speakers
    counts: Speakers


def _spread(vectors: Vectors, speakers: Speakers) -> _Spread:
    _, owner, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    if len(counts) < 2 or len(counts) == len(vectors):
        raise EvaluationError("a back-end needs several speakers, some with several clips")
    mean = vectors.mean(axis=0, dtype=np.float64)
    centred = vectors - mean
    means = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(means, owner, centred)
    means /= counts[:, None]
    residual = centred - means[owner]
    within = residual.T @ residual / (len(vectors) - len(counts))
    between = means.T @ means / len(counts) - within * np.mean(1 / counts)
    return _Spread(mean, within, _positive(between), owner, counts)


def _em_step(
    centred: Floats, sums: Floats, spread: _Spread, within: Floats, between: Floats
) -> tuple[Floats, Floats]:
    """One step: the posterior of every speaker's place, then the covariances that fit it."""
    precision, prior = np.linalg.inv(within), np.linalg.inv(between)
    places = np.empty_like(sums)
    doubt = np.zeros_like(within)
    doubt_within = np.zeros_like(within)
    for count in np.unique(spread.counts):
        own = spread.counts == count
        covariance = np.linalg.inv(prior + count * precision)
        places[own] = sums[own] @ precision @ covariance
        doubt += own.sum() * covariance
        doubt_within += count * own.sum() * covariance
    residual = centred - places[spread.owner]
    return (
        _shrunk((residual.T @ residual + doubt_within) / len(centred), 0.0),
        _shrunk((places.T @ places + doubt) / len(places), 0.0),
    )


def _shrunk(covariance: Floats, share: float = SHRINKAGE) -> Floats:
    sphere = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return _positive((1 - share) * covariance + share * sphere)


def _positive(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    floor = FLOOR * max(float(values.max()), FLOOR)
    return np.asarray((vectors * np.maximum(values, floor)) @ vectors.T)


def _inverse_root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)
