"""Who is on the two sides of each trial: what resampling and fair weighting need to know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]
Speakers = tuple[Integers, Integers]  # the enrolled and the test speaker of each trial, (n,) each


@dataclass(frozen=True, slots=True)
class Sides:
    """The unit (a clip, or a model of several clips) on each side of each trial.

    `enrol` (n,) and `test` (n,) index units; `speaker` (units,) numbers each unit's speaker.
    """

    enrol: Integers
    test: Integers
    speaker: Integers

    @property
    def speakers(self) -> Speakers:
        """The enrolled and the test speaker of each trial, (n,) each."""
        return self.speaker[self.enrol], self.speaker[self.test]

    def compact(self) -> Sides:
        """Keep only the units and speakers that occur in a trial, renumbered."""
        used, sides = np.unique(np.concatenate([self.enrol, self.test]), return_inverse=True)
        enrol, test = np.split(sides, 2)
        return Sides(enrol, test, np.unique(self.speaker[used], return_inverse=True)[1])

    def select(self, keep: NDArray[np.bool_]) -> Sides:
        """The sides of the trials marked in `keep` (n,)."""
        return Sides(self.enrol[keep], self.test[keep], self.speaker)


def number_pairs(speakers: Speakers) -> NDArray[np.int64]:
    """A number (n,) for each trial's pair of speakers, whichever is on which side."""
    pairs = np.sort(np.stack(speakers).astype(np.int64), axis=0)
    numbers: NDArray[np.int64] = pairs[0] * (1 + int(pairs.max())) + pairs[1]
    return numbers


def weigh_pairs_equally(speakers: Speakers) -> Floats:
    """Trial weights (n,) under which every pair of speakers weighs 1 in total."""
    _, pair, counts = np.unique(number_pairs(speakers), return_inverse=True, return_counts=True)
    return 1 / counts[pair]
