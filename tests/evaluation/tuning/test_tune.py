"""The contract that comes of what was judged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.scoring import calibration
from evaluation.tuning import judgment, tune
from evaluation.tuning.calls import Calls
from evaluation.tuning.tune import Request
from service.contract import Calibration, Contract, OperatingPoint, ScoreKind
from tests.evaluation.tuning.test_cohorts import make_trials

POINTS = ((0.2, -0.5), (0.1, 0.0), (0.05, 1.0), (0.02, 2.0))
OWN = Contract(
    *("toy-1", 16_000, 16_000, 8_000, 4_000, 16),
    calibration=Calibration(2.0, {"cosine": 3.0, "log_test_speech": 0.3}, POINTS, "others"),
    operating_point=OperatingPoint(0.02),
)
REQUEST = Request(Path("model.onnx"), Path("calls.csv"), replicates=50)


def test_the_models_own_score_is_only_scaled_and_shifted(world: Callable) -> None:
    """What quality is worth was learned from more speakers than an operator has."""
    trials, voices = make_trials(world, speakers=30, takes=4, spread=0.7)
    calls = Calls(voices, None, trials, ())
    tuned, judged = tune._tune_on_trials(REQUEST, OWN, calls, trials)
    assert tuned is not None
    assert judged["kept"] == [tune.CALIBRATION]
    own, changed = OWN.calibration, tuned.calibration
    assert own is not None
    assert changed is not None
    assert changed.score is ScoreKind.COSINE
    before, after = (
        calibration.apply_calibration(each, trials.measures) for each in (own, changed)
    )
    assert np.corrcoef(before, after)[0, 1] == pytest.approx(1.0)
    scale = changed.weights["cosine"] / own.weights["cosine"]
    assert changed.weights["log_test_speech"] == pytest.approx(0.3 * scale)
    assert judged["cllr"].second < judged["cllr"].first
    threshold = judgment.find_threshold(changed, judged["promised"])
    others = after[~trials.target]
    assert np.mean(others >= threshold) == pytest.approx(judged["promised"], abs=0.01)


def test_a_model_that_fits_is_left_alone(world: Callable) -> None:
    trials, voices = make_trials(world, speakers=30, takes=4, spread=0.7)
    fitted = calibration.fit_for_contract(
        trials.measures,
        trials.target,
        trials.sides.speakers,
        terms=["cosine"],
        fitted_on="these very calls",
    )
    contract = replace(OWN, calibration=fitted)
    tuned, judged = tune._tune_on_trials(REQUEST, contract, Calls(voices, None, trials, ()), trials)
    assert tuned is None
    assert (judged["kept"], judged["after"], judged["difference"]) == ([], None, None)
    assert judged["promise"].own.interval.low <= judged["promised"]
    assert judged["before"].eer.value > 0
