"""Parts of a set of clips: a balanced sample, or one machine's share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.errors import EvaluationError
from evaluation.trials.manifest import Clip, Speaker


def sample_balanced(clips: Sequence[Clip], count: int, *, seed: int = 0) -> tuple[Clip, ...]:
    """Draw `count` clips as evenly over the speakers as possible; they keep their order.

    Each speaker is drawn two clips at a time, so that even a small sample has target trials.
    """
    order = np.random.default_rng(seed).permutation(len(clips))
    rank: dict[Speaker, int] = {}
    turn: Counter[Speaker] = Counter()
    keys = {}
    for index in order:
        speaker = clips[index].speaker
        keys[index] = (turn[speaker] // 2, rank.setdefault(speaker, len(rank)))
        turn[speaker] += 1
    chosen = sorted(order, key=keys.__getitem__)[:count]
    return tuple(clips[index] for index in sorted(chosen))


@dataclass(frozen=True, slots=True)
class Shard:
    """The `index`-th of `count` parts, counted from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`i/n` with 0 <= i < n; EvaluationError otherwise."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
            raise EvaluationError(f"--shard {text}: expected i/n with i from 0 to n - 1")
        return cls(int(index), int(count))

    def select(self, clips: Sequence[Clip]) -> tuple[Clip, ...]:
        """Every `count`-th clip."""
        return tuple(clips[self.index :: self.count])
