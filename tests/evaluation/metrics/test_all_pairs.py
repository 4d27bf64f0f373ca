"""All pairs of many embeddings, in bins."""

from collections.abc import Callable

import numpy as np
import pytest

from evaluation import metrics
from evaluation.metrics import Sweep, all_pairs
from evaluation.trials.manifest import speaker_numbers


def test_all_pairs_are_counted_as_a_loop_would(
    world: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_pairs, "BLOCK", 20)
    clips, voices = world(15, 5, spread=1.5)
    speakers = speaker_numbers(clips)
    counts = all_pairs.count_pairs(voices.vectors, speakers)
    cosine: dict[bool, list[float]] = {True: [], False: []}
    for one in range(75):
        for other in range(one + 1, 75):
            same = bool(speakers[one] == speakers[other])
            cosine[same].append(float(voices.vectors[one] @ voices.vectors[other]))
    edges = np.linspace(-1, 1, all_pairs.BINS + 1)
    for found, values in ((counts.target, cosine[True]), (counts.nontarget, cosine[False])):
        assert found.sum() == len(values)
        expected = np.histogram(values, edges)[0]
        assert np.abs(np.cumsum(found - expected)).max() <= 2  # a cosine on an edge may fall by it
    exact = metrics.eer(Sweep.of(cosine[True], cosine[False]))
    assert counts.eer == pytest.approx(exact, abs=2e-3)
