"""A promised false-match rate on speakers that nothing was fitted on."""

from collections.abc import Callable

import numpy as np

from evaluation.report import assessment, held_out
from evaluation.scoring import scores
from evaluation.trials import trials


def test_a_promise_is_checked_on_the_other_half_of_the_speakers(world: Callable) -> None:
    clips, voices = world(60, 12, spread=1.0)
    held = scores.score(trials.make_pairs(clips, limit=10**6), voices)
    sides = held.trials.sides()
    checks = held_out.check(
        held.measures,
        held.trials.target,
        sides,
        terms=assessment.TERMS,
        strata=np.zeros(60, int),
        replicates=50,
    )
    assert len(checks) == 2
    for check in checks:
        assert check.promised == 0.01
        assert check.interval.low <= check.realised <= check.interval.high
        assert check.holds
