"""Error rates over all pairs of many embeddings in constant memory.

The matrix of cosines is scored block by block and counted into fine bins, so that memory does not
grow with the number of embeddings. Figures are exact to one bin, 1/16384 of the range of cosine.
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


def count_pairs(vectors: NDArray[np.float32], speakers: NDArray[np.integer]) -> Counts:
    """Count the cosines of all pairs of unit rows (n, dim), each pair once.

    `speakers` (n,) say which pairs are target pairs.
    """
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
            total = np.bincount(bins.ravel(), minlength=BINS)
            targets = np.bincount(bins[same], minlength=BINS)
            totals += np.stack([targets, total - targets])
    return Counts(*totals)
