"""One system's figures by group."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from evaluation.metrics import fairness
from evaluation.report import assessment
from evaluation.scoring import scores
from evaluation.trials import trials


def scored(world: Callable, **made: float) -> scores.ScoredTrials:
    clips, voices = world(16, 4, **made)
    clips = tuple(
        replace(clip, labels={"gender": "fm"[index // 32]}) for index, clip in enumerate(clips)
    )
    return scores.score(trials.make_pairs(clips, limit=10**6), voices)


def test_blank_demographics_leave_fairness_by_corpus(world: Callable) -> None:
    clips, voices = world(16, 4)
    clips = tuple(replace(clip, labels={"gender": ""}) for clip in clips)
    judged = scores.score(trials.make_pairs(clips, limit=10**6), voices)
    assert set(assessment.list_fairness_groups(judged)) == {"corpus"}


def test_fairness_counts_at_one_threshold(world: Callable) -> None:
    held = scored(world, spread=1.5)
    target, cosine = held.trials.target, held.measures.cosine
    groups = assessment.list_fairness_groups(held)["gender"]
    rows = fairness.measure_groups(cosine, target, held.trials.sides(), groups, 0.5, replicates=20)
    for name, keep in groups.items():
        row = rows[name]
        assert row.fmr == pytest.approx(np.mean(cosine[keep & ~target] >= 0.5))
        assert row.fnmr == pytest.approx(np.mean(cosine[keep & target] < 0.5))
        assert row.fmr_interval.low <= row.fmr <= row.fmr_interval.high
    rates = [row.fmr for row in rows.values()]
    assert fairness.measure_differentials(rows)[0] == pytest.approx(max(rates) / min(rates))
