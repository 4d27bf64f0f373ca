"""Calibration on Gaussian scores, whose log-likelihood ratios are known."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.metrics import Sweep
from evaluation.report import assessment
from evaluation.scoring import calibration
from evaluation.scoring.measures import Measures, make_design_matrix
from service.decisions import scoring

Array = NDArray[np.float64]


def gaussian(targets: int, nontargets: int, seed: int = 0) -> tuple[Array, NDArray[np.bool_]]:
    """Scores N(1, 0.5) and N(-0.5, 0.5): the ratio is `6 x - 1.5`."""
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(1, 0.5, targets), rng.normal(-0.5, 0.5, nontargets)])
    return scores, np.arange(targets + nontargets) < targets


@pytest.mark.parametrize("prior", [0.5, 0.01])
def test_recovers_known_ratios_whatever_the_proportions(prior: float) -> None:
    scores, target = gaussian(20_000, 60_000)
    fitted = calibration.fit(scores[:, None], target, prior=prior)
    tolerance = 0.03 if prior == 0.5 else 0.1
    assert fitted.weights[0] == pytest.approx(6, rel=tolerance)
    assert fitted.bias == pytest.approx(-1.5, abs=6 * tolerance)


def test_is_the_minimum_of_the_prior_weighted_cost() -> None:
    rng = np.random.default_rng(3)
    target = rng.random(500) < 0.3
    columns = rng.normal(size=(500, 3)) + target[:, None] * [1.0, 0.3, 0.0]
    fitted = calibration.fit(columns, target, prior=0.2)

    def cost(bias: float, weights: Array) -> float:
        odds = columns @ weights + bias + np.log(0.2 / 0.8)
        return float(
            0.2 * np.mean(np.log1p(np.exp(-odds[target])))
            + 0.8 * np.mean(np.log1p(np.exp(odds[~target])))
        )

    least = cost(fitted.bias, fitted.weights)
    for step in np.concatenate([np.eye(4), -np.eye(4)]) * 0.01:
        assert cost(fitted.bias + step[0], fitted.weights + step[1:]) > least


def test_separable_scores_stay_finite() -> None:
    fitted = calibration.fit(np.array([[0.0], [0.1], [1.0], [1.1]]), np.arange(4) > 1)
    assert np.isfinite([fitted.bias, *fitted.weights]).all()
    assert fitted(np.array([[1.0]]))[0] > 0 > fitted(np.array([[0.1]]))[0]


def test_needs_both_kinds_of_trials() -> None:
    with pytest.raises(EvaluationError, match="non-target"):
        calibration.fit(np.ones((3, 1)), np.ones(3, bool))


def made_trials(
    seed: int, speakers: int = 60, each: int = 4000
) -> tuple[Measures, NDArray[np.bool_], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Cosines whose spread falls with the speech enrolled, between made speakers."""
    rng = np.random.default_rng(seed)
    enrol = rng.integers(0, speakers, 2 * each)
    test = np.where(np.arange(2 * each) < each, enrol, rng.integers(0, speakers, 2 * each))
    target = enrol == test
    speech_s = rng.uniform(1, 20, 2 * each)
    cosine = 0.6 * target + rng.normal(0, 0.5, 2 * each) / np.sqrt(speech_s)
    measures = Measures(
        cosine, speech_s, rng.uniform(5, 30, 2 * each), rng.uniform(5, 30, 2 * each)
    )
    return measures, target, (enrol, test)


TERMS = list(assessment.TERMS)


def test_no_trial_is_judged_by_a_calibration_that_saw_its_speakers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The two columns tell who spoke, so a stand-in for the regression can look."""
    _, target, (enrol, test) = made_trials(0)
    measures = Measures(np.zeros(len(target)), 1.0 + enrol, 1.0 + test, np.zeros(len(target)))  # type: ignore[arg-type]
    judged = 0

    class Fitted:
        def __init__(self, columns: Array, *_: object, **__: object) -> None:
            self.seen = set(columns.ravel())

        def __call__(self, columns: Array) -> Array:
            nonlocal judged
            judged += len(columns)
            assert not self.seen & set(columns.ravel())
            assert len(self.seen) > 60 / 2
            return columns[:, 0]

    monkeypatch.setattr(calibration, "fit", Fitted)
    terms = ["log_enrol_speech", "log_test_speech"]
    calibration.cross_validate(measures, target, (enrol, test), terms=terms)
    assert judged == len(target)


def test_quality_measures_lower_the_cost_on_unseen_speakers() -> None:
    measures, target, speakers = made_trials(1)
    plain = calibration.cross_validate(measures, target, speakers, terms=["cosine"])
    full = calibration.cross_validate(measures, target, speakers, terms=TERMS)
    assert calibration.measure_cllr(full, target)[0] < calibration.measure_cllr(plain, target)[0]
    cllr, least = calibration.measure_cllr(full, target)
    assert cllr - least < 0.03


def test_the_contract_says_what_the_service_will_say() -> None:
    measures, target, speakers = made_trials(2)
    contract = calibration.fit_for_contract(
        measures, target, speakers, terms=TERMS, fitted_on="made trials"
    )
    weights = np.array([contract.weights[term] for term in TERMS])
    fitted = make_design_matrix(measures, TERMS) @ weights + contract.bias
    for index in range(0, len(target), 997):
        one = scoring.Measures(
            measures.cosine[index],
            measures.enrol_speech_s[index],
            measures.test_speech_s[index],
            measures.snr_db[index],
        )
        ratio = scoring.log_likelihood_ratio(contract, one)
        assert ratio == pytest.approx(fitted[index], abs=1e-6)


def test_the_threshold_for_a_false_match_rate_holds_on_unseen_speakers() -> None:
    measures, target, speakers = made_trials(4, each=10_000)
    contract = calibration.fit_for_contract(
        measures, target, speakers, terms=TERMS, fitted_on="made trials"
    )
    threshold = dict(contract.false_match)[0.01]
    unseen, truth, _ = made_trials(5, each=20_000)
    weights = np.array([contract.weights[term] for term in TERMS])
    llr = make_design_matrix(unseen, TERMS) @ weights + contract.bias
    realised = Sweep.of(llr[truth], llr[~truth]).at(threshold).fmr
    trained, judged = (~target).sum(), (~truth).sum()
    deviation = np.sqrt(0.01 * 0.99 * (1 / trained + 1 / judged))
    assert abs(realised - 0.01) < 1.96 * deviation


def test_false_match_points_rest_on_thirty_errors() -> None:
    ratios = np.random.default_rng(6).normal(size=3000).round(2)
    points = calibration.find_false_match_points(ratios)
    assert [rate for rate, _ in points] == [0.2, 0.1, 0.05, 0.02, 0.01]
    for rate, threshold in points:
        assert 0.5 * rate < np.mean(ratios >= threshold) <= rate


def test_poor_quality_never_raises_a_ratio() -> None:
    """Of these trials, those of the speaker are the noisier and the shorter: fitted freely, an
    impostor would gain by noise and by brevity."""
    measures, target, speakers = made_trials(7)
    worse = Measures(
        measures.cosine,
        measures.enrol_speech_s,
        measures.test_speech_s / np.where(target, 3, 1),
        measures.snr_db - np.where(target, 4, 0),
    )
    columns = make_design_matrix(worse, TERMS)
    free = calibration.fit(columns, target)
    assert all(free.weights[TERMS.index(term)] < 0 for term in calibration.RISING)
    contract = calibration.fit_for_contract(worse, target, speakers, terms=TERMS, fitted_on="made")
    assert contract.rewards_poor_quality == ()
    assert contract.weights["cosine"] > 0

    judged = calibration.cross_validate(worse, target, speakers, terms=TERMS)
    noisier = replace(worse, snr_db=worse.snr_db - 10, test_speech_s=worse.test_speech_s / 2)
    told = calibration.cross_validate(noisier, target, speakers, terms=TERMS)
    assert np.allclose(judged, told, atol=1e-6)  # neither weighs anything any more


def test_a_bounded_fit_is_the_least_cost_within_its_bounds() -> None:
    rng = np.random.default_rng(8)
    target = rng.random(400) < 0.4
    columns = rng.normal(size=(400, 3)) + target[:, None] * [1.0, -0.4, 0.3]
    columns[:, 2] += columns[:, 1]  # the second is worth something while the first is bounded
    rising = np.array([False, True, True])
    fitted = calibration.fit(columns, target, rising=rising)
    assert (fitted.weights[1:] >= 0).all()

    def cost(bias: float, weights: Array) -> float:
        odds = np.where(target, -1, 1) * (columns @ weights + bias)
        return float(
            np.mean(np.log1p(np.exp(odds[target]))) + np.mean(np.log1p(np.exp(odds[~target])))
        )

    least = cost(fitted.bias, fitted.weights)
    for step in np.concatenate([np.eye(4), -np.eye(4)]) * 0.02:
        moved = fitted.weights + step[1:]
        if (moved[rising] >= 0).all():
            assert cost(fitted.bias + step[0], moved) > least - 1e-6


def test_a_threshold_saw_neither_speaker_of_its_trial() -> None:
    first, second = np.triu_indices(30, 1)
    llr = np.random.default_rng(0).normal(size=len(first))
    target = np.zeros(len(first), bool)
    one = np.zeros(len(llr), int)
    held = calibration.cross_validate_thresholds(llr, target, (first, second), one, 0.1, seed=4)
    fold = calibration.assign_folds(30, seed=4)
    for row in (0, 100, len(llr) - 1):
        own = (fold[first[row]], fold[second[row]])
        others = llr[~np.isin(fold[first], own) & ~np.isin(fold[second], own)]
        assert np.mean(others >= held[row]) == pytest.approx(0.1, abs=1 / len(others))
    assert len(np.unique(held)) > 1


def test_a_threshold_is_that_of_the_stratum_that_needs_the_highest() -> None:
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1, 2], [4000, 4000, 20])
    llr = rng.normal(size=8020) + np.array([0.0, 1.0, 9.0])[strata]
    points = dict(calibration.find_false_match_points(llr, None, strata))
    assert min(points) == 0.01  # 4,000 trials tell no lower one, 20 none
    for rate, threshold in points.items():
        assert np.mean(llr[strata == 1] >= threshold) <= rate
        assert np.mean(llr[strata == 0] >= threshold) < rate
    own = calibration.find_false_match_points(llr[strata == 1])
    assert tuple(points.items()) == own
