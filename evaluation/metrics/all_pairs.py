"""All pairs of many embeddings, without ever holding their matrix.

Blocks of it are scored and counted into fine bins, so that memory stays the same however many
embeddings there are; figures are exact to a bin, 1/16384 of the range of cosine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics

BINS = 1 << 15
BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Counts:
    """How many target and non-target cosines fall into each of `BINS` equal bins over -1..1."""

    target: NDArray[np.int64]
    nontarget: NDArray[np.int64]

    @property
    def rates(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(FMR, FNMR) at the lower edge of every bin and, last, accepting nothing."""
        fnmr = np.concatenate([[0], np.cumsum(self.target)]) / self.target.sum()
        fmr = 1 - np.concatenate([[0], np.cumsum(self.nontarget)]) / self.nontarget.sum()
        return fmr, fnmr

    @property
    def eer(self) -> float:
        """ROCCH-EER of the binned cosines."""
        return metrics.eer_of_rates(*self.rates)


def count(vectors: NDArray[np.float32], speakers: NDArray[np.integer]) -> Counts:
    """The cosines of all pairs of unit rows (n, dim), each pair once, by whether their speakers
    (n,) are the same."""
    totals = np.zeros((2, BINS), np.int64)
    for start in range(0, len(vectors), BLOCK):
        rows = slice(start, start + BLOCK)
        for other in range(start, len(vectors), BLOCK):
            columns = slice(other, other + BLOCK)
            cosines = vectors[rows] @ vectors[columns].T
            bins = np.clip((cosines + 1) * (BINS / 2), 0, BINS - 1).astype(np.int32)
            same = speakers[rows, None] == speakers[None, columns]
            if other == start:
                upper = np.triu(np.ones(bins.shape, bool), 1)
                bins, same = bins[upper], same[upper]
            every = np.bincount(bins.ravel(), minlength=BINS)
            targets = np.bincount(bins[same], minlength=BINS)
            totals += np.stack([targets, every - targets])
    return Counts(*totals)
