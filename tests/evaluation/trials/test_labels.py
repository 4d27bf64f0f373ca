"""Labels of both sides of a trial, and the trials that they keep."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.errors import EvaluationError
from evaluation.report import assessment, breakdowns
from evaluation.scoring import scores
from evaluation.trials import labels, trials
from evaluation.trials.manifest import Clip, Speaker


def labelled(*rows: tuple[str, str, str]) -> list[Clip]:
    """Clips of (speaker, gender, session)."""
    return [
        Clip(str(n), Path(str(n)), Speaker("", speaker), {"gender": gender, "session": session})
        for n, (speaker, gender, session) in enumerate(rows)
    ]


CLIPS = labelled(
    ("a", "f", "1"), ("a", "f", "2"), ("a", "f", "2"), ("b", "f", "1"), ("c", "m", "2")
)


def test_filters_keep_what_agrees_and_what_differs() -> None:
    asked = trials.make_pairs(CLIPS, limit=99)
    same = labels.filter_trials(asked, same=["gender"])
    assert len(same) == 6
    assert all(
        CLIPS[e].labels["gender"] == CLIPS[t].labels["gender"]
        for e, t in zip(same.enrol, same.test, strict=True)
    )
    both = labels.filter_trials(asked, same=["gender"], different=["session"])
    assert sorted(zip(both.enrol.tolist(), both.test.tolist(), strict=True)) == [
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 3),
    ]
    with pytest.raises(EvaluationError, match="no clip has a label 'age'; there is corpus, gender"):
        labels.filter_trials(asked, same=["age"])
    with pytest.raises(EvaluationError, match="no target trial"):
        labels.filter_trials(asked, different=["gender"])


def test_a_blank_label_is_no_label(world: Callable) -> None:
    clips, voices = world(16, 4)
    clips = tuple(
        replace(clip, labels={"gender": "", "age": "teens" if index else "", "session": ""})
        for index, clip in enumerate(clips)
    )
    asked = trials.make_pairs(clips, limit=10**6)
    judged = scores.score(asked, voices)
    assert labels.list_columns(clips) == ("age",)
    assert "gender" not in dict(breakdowns.break_down(judged))
    assert set(assessment.list_fairness_groups(judged)) == {"age"}
    with pytest.raises(
        EvaluationError, match="the column 'gender' is blank for all of these clips"
    ):
        labels.filter_trials(asked, same=["gender"])
