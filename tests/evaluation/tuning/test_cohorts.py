"""Scores by a cohort that holds no voice of the trial's folds."""

from collections.abc import Callable

import numpy as np
import pytest

from evaluation.metrics.sides import Sides
from evaluation.scoring import calibration, scores
from evaluation.scoring.embeddings import Voices
from evaluation.trials.trials import make_pairs
from evaluation.tuning import cohorts
from evaluation.tuning.calls import Calls, LabelledTrials
from evaluation.tuning.cohorts import ANYBODY, MIN_VOICES, NEAREST, TAKES, Members
from service.decisions.scoring import cohort_statistics

SEED = 3


def make_trials(
    world: Callable, speakers: int = 25, takes: int = 3, spread: float = 1.0
) -> tuple[LabelledTrials, Voices]:
    clips, voices = world(speakers, takes, spread=spread)
    scored = scores.score(make_pairs(clips, limit=10**6), voices)
    trials = scored.trials
    speaker = np.repeat(np.arange(speakers), takes)
    return LabelledTrials(
        whole=scored,
        measures=scored.measures,
        target=trials.target,
        sides=Sides(trials.enrol, trials.test, speaker),
        enrolled=voices.vectors,
        enrol=trials.enrol,
        test=voices.vectors,
        test_row=trials.test,
        length=np.zeros(len(trials), int),
        clip_speaker=speaker,
    ), voices


def test_a_trial_is_normalized_by_voices_of_other_folds(world: Callable) -> None:
    trials, voices = make_trials(world)
    members = Members(voices.vectors, trials.clip_speaker, len(voices.vectors))
    found = members.normalize_held_out(trials, SEED)
    fold = calibration.assign_folds(25, seed=SEED)
    for row in (0, 7, 300, len(found) - 1):
        enrol, test = trials.enrol[row], trials.test_row[row]
        own = [fold[trials.clip_speaker[clip]] for clip in (enrol, test)]
        others = voices.vectors[~np.isin(fold[trials.clip_speaker], own)]
        assert len(others) < len(voices.vectors)
        sides = voices.vectors[[enrol, test]]
        mean, deviation = cohort_statistics(sides, others, round(NEAREST * len(others)))
        expected = ((trials.measures.cosine[row] - mean) / deviation).mean()
        assert found[row] == pytest.approx(expected, abs=1e-4)


def test_voices_of_nobody_in_the_trials_are_always_there(world: Callable) -> None:
    trials, voices = make_trials(world)
    strangers = world(60, 1, seed=9)[1].vectors
    whole = Members(strangers, np.full(60, ANYBODY), 60)
    cohort = whole.into_cohort("strangers")
    assert (cohort.count, cohort.top_n, cohort.source) == (60, 18, "strangers")
    found = whole.normalize_held_out(trials, SEED)
    sides = voices.vectors[[trials.enrol[0], trials.test_row[0]]]
    mean, deviation = cohort_statistics(sides, strangers, cohort.top_n)
    expected = ((trials.measures.cosine[0] - mean) / deviation).mean()
    assert found[0] == pytest.approx(expected, abs=1e-4)


def test_a_cohort_has_few_takes_of_a_speaker_and_needs_many_voices(world: Callable) -> None:
    trials, voices = make_trials(world, speakers=MIN_VOICES // TAKES + 1, takes=TAKES + 2)
    members = cohorts.gather_members(Calls(voices, None, trials, ()), seed=0)
    assert members is not None
    assert set(np.bincount(members.speaker)) == {TAKES}
    few, few_voices = make_trials(world, speakers=MIN_VOICES // TAKES, takes=TAKES + 2)
    assert cohorts.gather_members(Calls(few_voices, None, few, ()), seed=0) is None
    strangers = world(2, 1, seed=9)[1]
    both = cohorts.gather_members(Calls(few_voices, strangers, few, ()), seed=0)
    assert both is not None
    assert (both.speaker == ANYBODY).sum() == 2
