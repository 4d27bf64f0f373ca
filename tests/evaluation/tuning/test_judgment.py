"""What is kept, and what is not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from evaluation.metrics.sides import Sides
from evaluation.tuning import judgment
from evaluation.tuning.cohorts import ANYBODY, Members
from evaluation.tuning.judgment import Decided
from service.contract import Calibration, Contract
from service.decisions.scoring import l2_normalize
from tests.evaluation.tuning.test_cohorts import make_trials

CONTRACT = Contract("toy-1", 16_000, 16_000, 8_000, 4_000, 16)
RATE = 0.05


def fitted(*points: tuple[float, float]) -> Calibration:
    return Calibration(0.0, {"cosine": 1.0}, points, "made")


def test_a_cohort_that_does_not_help_is_not_chosen(world: Callable) -> None:
    trials, _ = make_trials(world)
    noise = np.random.default_rng(0).normal(size=(80, 16)).astype(np.float32)
    members = Members(l2_normalize(noise), np.full(80, ANYBODY), 80)
    chosen, rows = judgment.choose_score(trials, CONTRACT, members, replicates=50, seed=0)
    assert (chosen.name, chosen.members, chosen.changed) == (judgment.OWN, None, False)
    assert [row.helps for row in rows] == [False, False]
    assert rows[1].difference is not None


def test_a_cohort_that_knows_the_lines_is_chosen(world: Callable) -> None:
    """Half of the clips come over a line that adds the same to every voice."""
    trials, voices = make_trials(world, speakers=30, takes=4, spread=0.5)
    random = np.random.default_rng(0)
    line = 0.7 * l2_normalize(random.normal(size=(1, 16)).astype(np.float32))
    over_line = (np.arange(len(voices.vectors)) % 2)[:, None]
    vectors = l2_normalize((voices.vectors + over_line * line).astype(np.float32))
    strangers = l2_normalize(random.normal(size=(200, 16)).astype(np.float32))
    strangers = l2_normalize((strangers + (np.arange(200) % 2)[:, None] * line).astype(np.float32))
    cosine = np.vecdot(vectors[trials.enrol], vectors[trials.test_row]).astype(float)
    heard = replace(
        trials, enrolled=vectors, test=vectors, measures=replace(trials.measures, cosine=cosine)
    )
    members = Members(strangers, np.full(200, ANYBODY), 200)
    chosen, rows = judgment.choose_score(heard, CONTRACT, members, replicates=100, seed=0)
    assert chosen.changed
    assert chosen.members is members
    assert rows[1].eer < rows[0].eer


def test_a_rate_that_so_few_trials_cannot_measure_is_raised() -> None:
    assert judgment.choose_rate(CONTRACT, 100_000) == 0.01
    assert judgment.choose_rate(CONTRACT, 3_000) == 0.01
    assert judgment.choose_rate(CONTRACT, 2_999) == 0.02


def impostors(speakers: int = 60, shift: float = 0.0) -> tuple[np.ndarray, Sides]:
    first, second = np.triu_indices(speakers, 1)
    llr = np.random.default_rng(1).normal(size=len(first)) + shift
    return llr, Sides(first, second, np.arange(speakers))


@pytest.mark.parametrize(("shift", "helps"), [(0.0, False), (1.0, True), (-1.5, True)])
def test_thresholds_are_measured_again_if_the_promise_is_broken(shift: float, helps: bool) -> None:
    llr, sides = impostors(shift=shift)
    own = fitted((0.2, 0.84), (RATE, 1.645))  # of a normal distribution
    promise = judgment.judge_promise(
        llr, sides, np.zeros(len(llr), int), own, RATE, replicates=100, seed=0
    )
    assert promise.helps == helps
    assert promise.measured.value == pytest.approx(RATE, abs=0.02)
    assert dict(promise.points)[RATE] == pytest.approx(1.645 + shift, abs=0.2)


def test_groups_that_fall_short_are_said(world: Callable) -> None:
    trials, _ = make_trials(world, speakers=30, takes=4)
    clips = tuple(
        replace(clip, labels={"handset": ("desk", "mobile")[place % 2]})
        for place, clip in enumerate(trials.whole.trials.clips)
    )
    labelled = replace(trials.whole, trials=replace(trials.whole.trials, clips=clips))
    trials = replace(trials, whole=labelled)
    mobile = (trials.enrol % 2 == 1) & (trials.test_row % 2 == 1)
    margin = np.where(trials.target, 1.0, -1.0)
    margin[mobile] *= -1
    decided = Decided(margin, margin)
    groups = {
        (row.by, row.name): row
        for row in judgment.measure_groups(trials, Decided(margin, None), decided, RATE, seed=0)
    }
    assert groups["handset", "desk"].short == ""
    assert groups["handset", "mobile"].short == (
        "accepts more impostors than promised, rejects more genuine callers than the rest"
    )
    assert groups["handset", "mobile"].before is None
    assert groups["handset", "mobile"].after[0].value == 1.0
