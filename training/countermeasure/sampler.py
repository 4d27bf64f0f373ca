"""Which clips make a batch: half bona fide, half spoofed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.data.sampler import Draw, View
from training.spoofs.corpus import BONA_FIDE

SPOOFED, GENUINE = 0, 1


class ClassSampler:
    """Draws the batch of a step from (seed, step): labels are `GENUINE` and `SPOOFED`.

    Every attack is as likely as any other, however many clips it has, and so is every corpus of
    bona fide clips.
    """

    def __init__(
        self,
        attacks: Sequence[str],
        corpora: Sequence[str],
        *,
        batch: int,
        window_s: float,
        seed: int,
    ) -> None:
        names = np.asarray(attacks)
        groups = np.asarray(corpora)
        genuine = np.flatnonzero(names == BONA_FIDE)
        self._genuine = [genuine[groups[genuine] == name] for name in np.unique(groups[genuine])]
        spoofed = sorted(set(attacks) - {BONA_FIDE})
        self._spoofed = [np.flatnonzero(names == attack) for attack in spoofed]
        self._batch, self._window_s, self._seed = batch, window_s, seed

    def draw(self, step: int) -> Draw:
        rng = np.random.default_rng((self._seed, step))
        half = self._batch // 2
        sides = ((self._genuine, GENUINE, half), (self._spoofed, SPOOFED, self._batch - half))
        views = []
        for groups, label, count in sides:
            for _ in range(count):
                group = groups[int(rng.integers(len(groups)))]
                clip = int(group[int(rng.integers(len(group)))])
                views.append(View(clip, float(rng.random()), 1.0, label))
        return Draw(tuple(views), self._window_s)
