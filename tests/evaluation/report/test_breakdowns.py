"""Trials by label and by measure."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from evaluation.report import assessment, breakdowns
from evaluation.scoring import scores
from evaluation.trials import labels, trials


def test_bins_are_half_open_and_named() -> None:
    masks = breakdowns.split_into_bins(np.array([0.5, 1.0, 1.9, 2.0, 9.0]), (1.0, 2.0), "s")
    assert {name: keep.tolist() for name, keep in masks.items()} == {
        "under 1 s": [True, False, False, False, False],
        "1 to 2 s": [False, True, True, False, False],
        "2 s or more": [False, False, False, True, True],
    }


def scored(world: Callable, **made: float) -> scores.ScoredTrials:
    clips, voices = world(16, 4, **made)
    clips = tuple(
        replace(clip, labels={"gender": "fm"[index // 32]}) for index, clip in enumerate(clips)
    )
    return scores.score(trials.make_pairs(clips, limit=10**6), voices)


def test_breakdowns_cover_every_trial_once(world: Callable) -> None:
    held = scored(world)
    found = dict(breakdowns.break_down(held))
    assert set(found) >= {"net speech, heard", "signal to noise, heard", "gender"}
    for name in ("net speech, heard", "signal to noise, heard", "change of gender"):
        assert np.array_equal(
            sum(keep.astype(int) for keep in found[name].values()), held.trials.target >= 0
        )
    genders = found["gender"]
    assert genders["f"].sum() == genders["m"].sum() == 32 * 31 // 2


def test_an_unknown_label_is_neither_a_group_nor_a_match(world: Callable) -> None:
    clips, voices = world(16, 4)
    genders = ("f", "m", "", "")
    clips = tuple(
        replace(clip, labels={"gender": genders[index // 16]}) for index, clip in enumerate(clips)
    )
    asked = trials.make_pairs(clips, limit=10**6)
    judged = scores.score(asked, voices)
    sides = labels.label_sides(asked, "gender")
    assert sides.names == ("f", "m")
    assert sides.same.sum() == 2 * 16 * 15 // 2
    assert sides.different.sum() == 16 * 16
    assert set(assessment.list_fairness_groups(judged)["gender"]) == {"f", "m"}
    assert len(labels.filter_trials(asked, same=["gender"])) == sides.same.sum()
    found = dict(breakdowns.break_down(judged))
    assert set(found["gender"]) == {"f", "m"}
    assert found["change of gender"]["different"].sum() == 16 * 16
    unknown = 1 - (sides.same | sides.different).mean()
    assert labels.measure_unlabeled(asked) == {"gender": pytest.approx(unknown)}
