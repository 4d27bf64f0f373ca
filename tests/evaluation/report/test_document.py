"""Warnings of the evaluation's document."""

from collections.abc import Callable
from dataclasses import replace

from evaluation.report import assessment, document
from evaluation.scoring import scores
from evaluation.trials import trials


def test_targets_below_non_targets_are_hinted_at(world: Callable) -> None:
    clips, voices = world(16, 4)
    judged = scores.score(trials.make_pairs(clips, limit=10**6), voices)
    measured = assessment.assess("made", judged, "", replicates=0)
    assert document.find_warnings(measured) == []
    negated = replace(judged.measures, cosine=-judged.measures.cosine)
    swapped = replace(measured, scored=replace(judged, measures=negated))
    assert "negated, their EER is" in document.find_warnings(swapped)[0]


def test_equal_audio_under_two_names_is_no_trial(world: Callable) -> None:
    clips, voices = world(16, 4)
    digests = ["same" if index in (0, 1, 60) else name for index, name in enumerate(voices.digests)]
    voices = replace(voices, digests=tuple(digests))
    asked = trials.make_pairs(clips, limit=10**6)
    judged = scores.score(asked, voices)
    assert (judged.same_recording, judged.unscored) == (3, 0)
    assert len(judged.trials) == len(asked) - 3
    measured = assessment.assess("made", judged, "", replicates=0)
    assert "3 trials were left out" in document.find_warnings(measured)[0]
