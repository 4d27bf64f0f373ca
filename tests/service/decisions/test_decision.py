import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.audio.quality import Quality
from service.contract import Calibration
from service.decisions.decision import (
    Outcome,
    Reason,
    Score,
    decide,
    decide_early,
    decide_inconclusive,
    decide_unclaimed,
    list_shortcomings,
)
from service.decisions.policy import Costs, Policy, QualityGate, SequentialTest, ThresholdSource
from service.decisions.thresholds import (
    Threshold,
    bayes_threshold,
    careful_threshold,
    choose_threshold,
    false_match_threshold,
)
from service.errors import InvalidArgument

POINTS = ((0.1, -1.0), (0.01, 2.0), (0.001, 6.0))
CALIBRATION = Calibration(0.0, {"cosine": 1.0}, POINTS, "made")
DEMANDS = QualityGate(min_speech_s=2.0, min_snr_db=5.0, max_clipping=0.1)
GOOD = Quality(net_speech_s=3.0, total_s=4.0, snr_db=20.0, clipping=0.0, peak_dbfs=-3.0)


def quality(**changes: float | None) -> Quality:
    fields = {name: getattr(GOOD, name) for name in GOOD.__slots__}
    return Quality(**{**fields, **changes})


@given(prior=st.floats(0.001, 0.999), miss=st.floats(0.01, 100), false_accept=st.floats(0.01, 100))
def test_the_bayes_threshold_is_where_both_decisions_cost_the_same(
    prior: float, miss: float, false_accept: float
) -> None:
    likelihood_ratio = math.exp(bayes_threshold(Costs(prior, miss, false_accept)))
    posterior_odds = likelihood_ratio * prior / (1 - prior)
    assert posterior_odds * miss == pytest.approx(false_accept)


def test_measured_rates_are_met_exactly_and_interpolated_between() -> None:
    for rate, llr in POINTS:
        assert false_match_threshold(CALIBRATION, rate) == pytest.approx(llr)
    middle = math.sqrt(0.1 * 0.01)
    assert false_match_threshold(CALIBRATION, middle) == pytest.approx(0.5)


@given(st.lists(st.floats(0.001, 0.1), min_size=2, max_size=2, unique=True))
def test_a_stricter_rate_never_has_a_lower_threshold(rates: list[float]) -> None:
    strict, lenient = (false_match_threshold(CALIBRATION, rate) for rate in sorted(rates))
    assert strict >= lenient


@pytest.mark.parametrize("rate", [0.2, 0.0005])
def test_an_unmeasured_rate_is_refused(rate: float) -> None:
    with pytest.raises(InvalidArgument, match=r"0\.1") as caught:
        false_match_threshold(CALIBRATION, rate)
    assert caught.value.field == "policy.target_false_match_rate"


def test_a_calibration_without_points_says_so() -> None:
    with pytest.raises(InvalidArgument, match="not at all"):
        false_match_threshold(Calibration(0, {}, (), "made"), 0.01)


@pytest.mark.parametrize("rate", [0.1, 0.02, 0.001])
def test_what_was_measured_needs_no_care(rate: float) -> None:
    assert careful_threshold(CALIBRATION, rate) == false_match_threshold(CALIBRATION, rate)


def test_above_the_highest_measured_rate_its_threshold_holds() -> None:
    assert careful_threshold(CALIBRATION, 0.5) == -1.0


def test_below_the_lowest_measured_rate_the_threshold_grows_with_the_log() -> None:
    overconfident = replace(CALIBRATION, false_match=((0.1, 3.0), (0.001, 9.0)))
    assert careful_threshold(overconfident, 1e-5) == pytest.approx(9.0 + math.log(100))
    assert careful_threshold(CALIBRATION, 1e-5) == pytest.approx(math.log(1e5))
    assert careful_threshold(replace(CALIBRATION, false_match=()), 0.5) == pytest.approx(
        math.log(2)
    )


@given(
    rates=st.lists(st.floats(1e-9, 0.999), min_size=2, max_size=2),
    points=st.sampled_from([POINTS, POINTS[:1], ((0.1, 3.0), (0.001, 9.0)), ()]),
)
def test_a_rarer_match_never_needs_less(
    rates: list[float], points: tuple[tuple[float, float], ...]
) -> None:
    calibration = replace(CALIBRATION, false_match=points)
    strict, lenient = (careful_threshold(calibration, rate) for rate in sorted(rates))
    assert strict >= lenient


@pytest.mark.parametrize("separation", [1.0, 2.0, 4.0])
def test_calibrated_scores_reach_a_careful_threshold_no_more_often_than_asked(
    separation: float,
) -> None:
    """Exact tails: ratios of two Gaussians are Gaussian, with a mean of minus half their variance
    over non-targets. Their threshold at 1 in 100 was measured, rarer ones were not."""
    scores = statistics.NormalDist(-(separation**2) / 2, separation)
    measured = replace(CALIBRATION, false_match=((0.01, scores.inv_cdf(0.99)),))
    for rate in (1e-3, 1e-5, 1e-7):
        assert 1 - scores.cdf(careful_threshold(measured, rate)) <= rate


def test_a_threshold_says_where_it_came_from() -> None:
    by_rate = choose_threshold(Policy(0.01, ThresholdSource.REQUEST, DEMANDS), CALIBRATION)
    assert by_rate == Threshold(
        2.0, ThresholdSource.REQUEST, "target false-match rate 0.01 (request)"
    )
    by_costs = choose_threshold(
        Policy(Costs(0.5, 1, 10), ThresholdSource.SERVER, DEMANDS), CALIBRATION
    )
    assert by_costs == Threshold(
        pytest.approx(math.log(10)),  # type: ignore[arg-type]
        ThresholdSource.SERVER,
        "prior and costs (setting)",
    )


@given(llr=st.floats(-50, 50), threshold=st.floats(-50, 50))
def test_a_decision_accepts_at_and_above_the_threshold(llr: float, threshold: float) -> None:
    made = decide(Score(0.5, llr), Threshold(threshold, ThresholdSource.SERVER, "made"), GOOD, "m")
    assert (made.outcome is Outcome.ACCEPTED) == (llr >= threshold)
    assert made.score == Score(0.5, llr)
    assert "made" in made.explanation


@pytest.mark.parametrize(
    ("heard", "reasons"),
    [
        (GOOD, ()),
        (quality(net_speech_s=0.0), (Reason.NO_SPEECH,)),
        (quality(net_speech_s=1.9), (Reason.NOT_ENOUGH_SPEECH,)),
        (quality(snr_db=4.9), (Reason.TOO_NOISY,)),
        (quality(snr_db=None), ()),
        (quality(clipping=0.2), (Reason.CLIPPED,)),
        (quality(net_speech_s=1.0, snr_db=0.0), (Reason.NOT_ENOUGH_SPEECH, Reason.TOO_NOISY)),
    ],
)
def test_shortcomings_name_every_reason(heard: Quality, reasons: tuple[Reason, ...]) -> None:
    assert list_shortcomings(heard, DEMANDS) == reasons


def test_an_inconclusive_decision_says_what_is_missing() -> None:
    heard = quality(net_speech_s=0.5)
    made = decide_inconclusive(list_shortcomings(heard, DEMANDS), heard, DEMANDS, "m")
    assert made.outcome is Outcome.INCONCLUSIVE
    assert made.speech_needed_s == pytest.approx(1.5)
    assert "1.5 s more" in made.explanation
    assert made.score is None


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_can_be_explained(reason: Reason) -> None:
    assert decide_inconclusive((reason,), GOOD, DEMANDS, "m").explanation


@pytest.mark.parametrize("heard", [GOOD, quality(net_speech_s=0.5)])
def test_nobody_claimed_is_nobody_accepted_or_rejected(heard: Quality) -> None:
    made = decide_unclaimed(heard, DEMANDS, "m")
    assert made.outcome is Outcome.INCONCLUSIVE
    assert made.reasons == (Reason.NO_CLAIM, *list_shortcomings(heard, DEMANDS))
    assert made.speech_needed_s == max(0.0, 2.0 - heard.net_speech_s)
    assert made.score is None


@pytest.mark.parametrize("values", [(0, 1, 1), (1, 1, 1), (0.5, 0, 1), (0.5, 1, math.inf)])
def test_impossible_costs_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidArgument):
        Costs(*values)


@pytest.mark.parametrize("rate", [0.0, 1.0, math.nan])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(InvalidArgument):
        Policy(rate, ThresholdSource.REQUEST, DEMANDS)


@pytest.mark.parametrize("changes", [{"min_speech_s": -1}, {"min_snr_db": np.nan}])
def test_impossible_demands_are_refused(changes: dict[str, float]) -> None:
    fields = {"min_speech_s": 1.0, "min_snr_db": 0.0, "max_clipping": 0.1, **changes}
    with pytest.raises(InvalidArgument):
        QualityGate(**fields)


TEST = SequentialTest(false_match_rate=0.01, false_non_match_rate=0.05, max_speech_s=10.0)


def test_the_bounds_are_walds() -> None:
    assert TEST.accept_llr == pytest.approx(math.log(0.95 / 0.01))
    assert TEST.reject_llr == pytest.approx(math.log(0.05 / 0.99))


@given(llr=st.floats(-20, 20))
def test_a_sequential_test_accepts_nothing_below_the_least(llr: float) -> None:
    least = Threshold(9.0, ThresholdSource.SERVER, "the server's")
    made = decide_early(Score(0.5, llr), TEST, GOOD, "m", least=least, rejects=False)
    expected = Outcome.ACCEPTED if llr >= 9.0 else Outcome.INCONCLUSIVE
    assert made.outcome is expected
    lower = decide_early(
        Score(0.5, llr),
        TEST,
        GOOD,
        "m",
        least=Threshold(0.0, ThresholdSource.SERVER, "the server's"),
    )
    assert lower == decide_early(Score(0.5, llr), TEST, GOOD, "m")


@given(llr=st.floats(-20, 20))
def test_a_sequential_test_decides_beyond_its_bounds_only(llr: float) -> None:
    made = decide_early(Score(0.5, llr), TEST, GOOD, "m")
    if llr >= TEST.accept_llr:
        assert made.outcome is Outcome.ACCEPTED
    elif llr <= TEST.reject_llr:
        assert made.outcome is Outcome.REJECTED
        assert made.threshold is not None
        assert made.threshold.llr == TEST.reject_llr
    else:
        assert made.outcome is Outcome.INCONCLUSIVE
        assert made.reasons == (Reason.UNDECIDED,)
        assert made.speech_needed_s == pytest.approx(7.0)


def test_walds_error_rates_hold_on_independent_evidence() -> None:
    """Gaussian evidence arriving in small steps: the realised rates stay within the targets."""
    chance = np.random.default_rng(3)
    separation = 0.35
    steps = chance.normal(size=(2, 4000, 400))
    steps[0] += separation / 2
    steps[1] -= separation / 2
    paths = np.cumsum(separation * steps, axis=2)  # running log-likelihood ratios
    outside = (paths >= TEST.accept_llr) | (paths <= TEST.reject_llr)
    first = np.argmax(outside, axis=2)
    accepted = np.take_along_axis(paths, first[:, :, None], axis=2)[:, :, 0] > 0
    assert outside.any(axis=2).mean() > 0.999
    assert accepted[1].mean() <= TEST.false_match_rate + 3 * math.sqrt(0.01 / 4000)
    assert (~accepted[0]).mean() <= TEST.false_non_match_rate + 3 * math.sqrt(0.05 / 4000)


@pytest.mark.parametrize("values", [(0, 0.1, 1), (0.5, 0.1, 1), (0.1, 0.6, 1), (0.1, 0.1, 0)])
def test_an_impossible_sequential_test_is_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidArgument):
        SequentialTest(*values)
