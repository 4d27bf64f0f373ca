"""The trials that went most wrong."""

from collections.abc import Callable
from dataclasses import replace

from evaluation.report import worst
from evaluation.scoring import scores
from evaluation.trials import trials


def scored(world: Callable, **made: float) -> scores.ScoredTrials:
    clips, voices = world(16, 4, **made)
    clips = tuple(
        replace(clip, labels={"gender": "fm"[index // 32]}) for index, clip in enumerate(clips)
    )
    return scores.score(trials.make_pairs(clips, limit=10**6), voices)


def test_the_worst_errors_are_the_extremes_of_distinct_speakers(world: Callable) -> None:
    held = scored(world, spread=2.0)
    cosine, target = held.measures.cosine, held.trials.target
    accepted = worst.find_false_matches(held.trials, cosine, 5)
    refused = worst.find_false_non_matches(held.trials, cosine, 5)
    assert accepted[0].score == cosine[~target].max()
    assert refused[0].score == cosine[target].min()
    assert len({frozenset((one.enrol_speaker, one.test_speaker)) for one in accepted}) == 5
    assert all(one.enrol_speaker == one.test_speaker for one in refused)
    assert [one.score for one in accepted] == sorted((one.score for one in accepted), reverse=True)
