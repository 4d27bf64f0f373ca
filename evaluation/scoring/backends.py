"""Back-ends between embedding and score, fitted on embeddings of known speakers.

Mean subtraction, whitening and LDA are an affine map followed by L2 normalization, so an exporter
can put them into the graph. PLDA scores pairs of embeddings itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from service.decisions.scoring import l2_normalize

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Speakers = NDArray[np.integer]

SHRINKAGE = 0.1
FLOOR = 1e-6
EM_STEPS = 10
ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Projection:
    """`l2_normalized((x - mean) @ matrix)`: mean (dim,), matrix (dim, kept)."""

    mean: Floats
    matrix: Floats

    def __call__(self, vectors: Vectors) -> Vectors:
        """Unit rows (n, kept) of `vectors` (n, dim)."""
        return l2_normalize(((vectors - self.mean) @ self.matrix).astype(np.float32))


def fit_mean_subtraction(vectors: Vectors) -> Projection:
    """Center on the mean of `vectors` (n, dim)."""
    return Projection(vectors.mean(axis=0, dtype=np.float64), np.eye(vectors.shape[1]))


def fit_whitening(vectors: Vectors) -> Projection:
    """Center, decorrelate and equalize variances; the covariance is shrunk towards a sphere."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    return Projection(mean, _inverse_root(_shrink(np.cov(vectors.T.astype(np.float64)))))


def fit_lda(vectors: Vectors, speakers: Speakers, kept: int) -> Projection:
    """Keep the `kept` directions with the largest ratio of variance between speakers to within."""
    spread = _measure_spread(vectors, speakers)
    white = _inverse_root(_shrink(spread.within))
    values, directions = np.linalg.eigh(white @ spread.between @ white)
    return Projection(spread.mean, white @ directions[:, np.argsort(values)[::-1][:kept]])


@dataclass(frozen=True, slots=True)
class Plda:
    """Two-covariance PLDA (Brümmer & de Villiers 2010).

    In its space variance within a speaker is 1 and variance between speakers `between` (dim,).
    """

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
        """LLR (n,) that rows `enrol` of `left` and `test` of `right` are of one speaker."""
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
    """Fit by expectation maximization, starting from the moments of `vectors` (n, dim)."""
    spread = _measure_spread(vectors, speakers)
    centered = vectors - spread.mean
    sums = np.zeros((len(spread.counts), vectors.shape[1]))
    np.add.at(sums, spread.owner, centered)
    within, between = _shrink(spread.within), _shrink(spread.between)
    for _ in range(EM_STEPS):
        within, between = _em_step(centered, sums, spread, within, between)
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


def _measure_spread(vectors: Vectors, speakers: Speakers) -> _Spread:
    _, owner, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    if len(counts) < 2 or len(counts) == len(vectors):
        raise EvaluationError("a back-end needs several speakers, some with several clips")
    mean = vectors.mean(axis=0, dtype=np.float64)
    centered = vectors - mean
    means = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(means, owner, centered)
    means /= counts[:, None]
    residual = centered - means[owner]
    within = residual.T @ residual / (len(vectors) - len(counts))
    between = means.T @ means / len(counts) - within * np.mean(1 / counts)
    return _Spread(mean, within, _make_positive(between), owner, counts)


def _em_step(
    centered: Floats, sums: Floats, spread: _Spread, within: Floats, between: Floats
) -> tuple[Floats, Floats]:
    """One EM step: the posterior mean of every speaker, then the covariances that fit it."""
    precision, prior = np.linalg.inv(within), np.linalg.inv(between)
    means = np.empty_like(sums)
    doubt = np.zeros_like(within)
    doubt_within = np.zeros_like(within)
    for count in np.unique(spread.counts):
        own = spread.counts == count
        covariance = np.linalg.inv(prior + count * precision)
        means[own] = sums[own] @ precision @ covariance
        doubt += own.sum() * covariance
        doubt_within += count * own.sum() * covariance
    residual = centered - means[spread.owner]
    return (
        _shrink((residual.T @ residual + doubt_within) / len(centered), 0.0),
        _shrink((means.T @ means + doubt) / len(means), 0.0),
    )


def _shrink(covariance: Floats, share: float = SHRINKAGE) -> Floats:
    sphere = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return _make_positive((1 - share) * covariance + share * sphere)


def _make_positive(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    floor = FLOOR * max(float(values.max()), FLOOR)
    return np.asarray((vectors * np.maximum(values, floor)) @ vectors.T)


def _inverse_root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)
