"""Batches for learning without labels: P clips, K views of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.data.sampler import Draw, View


class ClipSampler:
    """Draws P distinct clips alike, one speed of each, and K crops of it, from the seed and the
    step alone.

    The first crop lies anywhere; from there each other goes the share `spread` of the way to a
    place of its own: 0 is the same crop again, 1 anywhere. A clip at another speed has another
    label: `label = clip * len(speeds) + speed index`.
    """

    def __init__(
        self,
        clips: int,
        *,
        drawn: int,
        views: int,
        spread: float,
        crop_s: Sequence[float],
        speeds: Sequence[float],
        seed: int,
    ) -> None:
        self._clips = clips
        self._drawn = min(drawn, clips)
        self._views = views
        self._spread = spread
        self._crop_s = tuple(crop_s)
        self._speeds = tuple(speeds)
        self._seed = seed

    @property
    def voices(self) -> int:
        return self._clips * len(self._speeds)

    def draw(self, step: int) -> Draw:
        rng = np.random.default_rng((self._seed, step))
        chosen = rng.choice(self._clips, self._drawn, replace=False)
        crop_s = self._crop_s[rng.integers(len(self._crop_s))]
        return Draw(tuple(v for clip in chosen for v in self._crops(int(clip), rng)), crop_s)

    def _crops(self, clip: int, rng: np.random.Generator) -> list[View]:
        speed = int(rng.integers(len(self._speeds)))
        first, *others = rng.random(self._views)
        places = [first, *(first + self._spread * (other - first) for other in others)]
        label = clip * len(self._speeds) + speed
        return [View(clip, float(place), self._speeds[speed], label) for place in places]
