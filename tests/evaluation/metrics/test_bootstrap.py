"""The bootstrap: its sums against loops, and its intervals against repeated experiments."""

from collections.abc import Callable

import numpy as np
import pytest

from evaluation import metrics
from evaluation.metrics import Sweep, bootstrap
from evaluation.scoring import scores
from evaluation.trials import trials


def test_curves_are_the_weighted_error_rates(world: Callable) -> None:
    clips, voices = world(6, 3, spread=1.5)
    scored = scores.score(trials.make_pairs(clips, limit=1000), voices)
    cosine, target = scored.measures.cosine.round(1), scored.trials.target
    sides = scored.trials.sides()
    draws = bootstrap.draw(sides, 5, np.random.default_rng(0))
    curves = bootstrap.resample(cosine, target, sides, draws)
    for replicate in range(curves.fmr.shape[1]):
        who = draws.speaker[:, replicate].astype(float)
        unit = draws.unit[:, replicate].astype(float)
        weight = who[sides.enrol] * unit[sides.enrol] * unit[sides.test]
        weight = weight * np.where(target, 1, who[sides.test])
        expected = {
            (
                round(weight[~target & (cosine >= cut)].sum() / weight[~target].sum(), 6),
                round(weight[target & (cosine < cut)].sum() / weight[target].sum(), 6),
            )
            for cut in [*np.unique(cosine), np.inf]
        }
        rates = zip(curves.fmr[:, replicate], curves.fnmr[:, replicate], strict=True)
        assert {(round(fmr, 6), round(fnmr, 6)) for fmr, fnmr in rates} == expected


def test_draws_keep_the_number_of_speakers_and_of_their_clips(world: Callable) -> None:
    clips, _ = world(5, 4)
    sides = trials.make_pairs(clips, limit=1000).sides()
    draws = bootstrap.draw(sides, 50, np.random.default_rng(1))
    first = np.unique(sides.speaker, return_index=True)[1]
    assert np.all(draws.speaker[first].sum(axis=0) == 5)
    for speaker in range(5):
        assert np.all(draws.unit[sides.speaker == speaker].sum(axis=0) == 4)


def test_weights_of_one_give_back_the_exact_figures(world: Callable) -> None:
    clips, voices = world(12, 4, spread=1.5)
    scored = scores.score(trials.make_pairs(clips, limit=10_000), voices)
    cosine, target = scored.measures.cosine, scored.trials.target
    sides = scored.trials.sides()
    ones = np.ones((len(clips), 2), np.float32)
    curves = bootstrap.resample(cosine, target, sides, bootstrap.Draws(ones, ones))
    sweep = Sweep.of(cosine[target], cosine[~target])
    assert bootstrap.resample_eer(curves) == pytest.approx(metrics.eer(sweep), abs=2e-3)
    assert bootstrap.resample_min_dcf(curves, 0.05) == pytest.approx(
        metrics.min_dcf(sweep, 0.05), abs=2e-3
    )


def test_intervals_cover_the_truth_about_as_often_as_they_say(world: Callable) -> None:
    """60 experiments of 25 speakers; trial-level intervals would cover far less often."""
    truth = _eer_of(*world(400, 5, spread=1.6, seed=99))
    covered = 0
    for seed in range(60):
        clips, voices = world(25, 5, spread=1.6, seed=seed)
        scored = scores.score(trials.make_pairs(clips, limit=10**6), voices)
        sides = scored.trials.sides()
        draws = bootstrap.draw(sides, 100, np.random.default_rng(seed))
        curves = bootstrap.resample(scored.measures.cosine, scored.trials.target, sides, draws)
        estimate = _eer_of(clips, voices)
        found = bootstrap.percentile_interval(bootstrap.resample_eer(curves), estimate)
        covered += found is not None and found.low <= truth <= found.high
    assert covered >= 52


def test_draws_without_both_kinds_of_trial_are_left_out(world: Callable) -> None:
    clips, voices = world(2, 2)
    scored = scores.score(trials.make_pairs(clips, limit=100), voices)
    sides = scored.trials.sides()
    draws = bootstrap.draw(sides, 200, np.random.default_rng(0))
    curves = bootstrap.resample(scored.measures.cosine, scored.trials.target, sides, draws)
    assert 0 < curves.fmr.shape[1] < 200
    assert np.isfinite(curves.fmr).all()
    assert np.isfinite(curves.fnmr).all()
    assert bootstrap.percentile_interval(np.zeros(0), 0.1) is None


def _eer_of(clips: tuple, voices: object) -> float:
    scored = scores.score(trials.make_pairs(clips, limit=10**7), voices)  # type: ignore[arg-type]
    cosine, target = scored.measures.cosine, scored.trials.target
    return metrics.eer(Sweep.of(cosine[target], cosine[~target]))
