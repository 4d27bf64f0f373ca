import math
from dataclasses import replace

import numpy as np
import pytest

from evaluation.scoring import normalization
from evaluation.scoring.normalization import Norm
from service.contract import Calibration, Cohort, Contract, ScoreKind
from service.decisions import scoring
from service.decisions.scoring import (
    NO_COHORT,
    TERMS,
    CohortStatistics,
    Measures,
    Scorer,
    Vector,
    average_voice,
    cosine,
    l2_normalize,
    log_likelihood_ratio,
)
from service.errors import ContractError

DIMENSION, TOP = 24, 10
WEIGHTS = {"cosine": 2.0, "cosine_log_enrol_speech": 0.3, "log_enrol_speech": -0.5}
AS_NORM = Calibration(-1.0, WEIGHTS, (), "made", ScoreKind.AS_NORM)
MEASURES = Measures(score=0.5, enroll_speech_s=10.0, test_speech_s=2.0, snr_db=15.0)


def test_the_ratio_is_the_weighted_sum_of_its_terms() -> None:
    weights = {name: 0.5 + number for number, name in enumerate(TERMS)}
    calibration = Calibration(-3.0, weights, (), "made")
    expected = (
        -3.0
        + weights["cosine"] * 0.5
        + weights["log_enrol_speech"] * math.log(10)
        + weights["log_test_speech"] * math.log(2)
        + weights["cosine_log_enrol_speech"] * 0.5 * math.log(10)
        + weights["cosine_log_test_speech"] * 0.5 * math.log(2)
        + weights["snr"] * 1.5
    )
    assert log_likelihood_ratio(calibration, MEASURES) == pytest.approx(expected)


@pytest.mark.parametrize("name", TERMS)
def test_terms_stay_finite_at_the_extremes(name: str) -> None:
    for speech_s in (0.0, 1e9):
        for snr_db in (-10.0, 60.0):
            assert math.isfinite(TERMS[name](Measures(-1.0, speech_s, speech_s, snr_db)))


def test_a_voice_is_the_mean_weighted_by_net_speech() -> None:
    vectors = np.array([[1, 0], [0, 1]], np.float32)
    made = average_voice(vectors, np.array([3, 1], np.float32))
    assert made == pytest.approx(np.array([3, 1]) / math.sqrt(10))


def test_a_zero_vector_stays_zero() -> None:
    assert not l2_normalize(np.zeros((2, 3), np.float32)).any()


def test_a_cosine_never_exceeds_one() -> None:
    vector = l2_normalize(np.full(192, 0.1, np.float32))
    assert cosine(vector, vector * np.float32(1.000001)) == 1.0
    assert cosine(vector, -vector) == pytest.approx(-1.0)


def voices(count: int, *, seed: int) -> Vector:
    """(count, DIMENSION) of length one, all on one side, as embeddings are."""
    drawn = np.random.default_rng(seed).normal(0.3, 1, (count, DIMENSION))
    return l2_normalize(drawn.astype(np.float32))


COHORT = voices(60, seed=1)


@pytest.fixture
def contract() -> Contract:
    return Contract(
        model_id="m",
        sample_rate=16000,
        window_samples=32000,
        hop_samples=16000,
        min_speech_samples=8000,
        dimension=DIMENSION,
        calibration=AS_NORM,
        cohort=Cohort(COHORT.astype("<f4").tobytes(), len(COHORT), TOP, "made"),
    )


def naive_view(similarity: float, vector: Vector) -> float:
    """A cosine as one side's ten nearest in the cohort see it, in double precision."""
    against = [sum(float(a) * float(b) for a, b in zip(vector, o, strict=True)) for o in COHORT]
    nearest = sorted(against)[-TOP:]
    mean = sum(nearest) / TOP
    deviation = math.sqrt(sum((each - mean) ** 2 for each in nearest) / TOP)
    return (similarity - mean) / deviation


def ratio(scorer: Scorer, enrolled: Vector, heard: Vector) -> float:
    return scorer.compare(enrolled, heard, enroll_speech_s=10.0, test_speech_s=3.0, snr_db=None)


def test_a_ratio_is_that_of_the_normalised_score(contract: Contract) -> None:
    scorer = Scorer(contract)
    for enrolled, heard in zip(voices(5, seed=2), voices(5, seed=3), strict=True):
        similarity = float(enrolled.astype(float) @ heard.astype(float))
        score = (naive_view(similarity, enrolled) + naive_view(similarity, heard)) / 2
        expected = -1.0 + score * (2.0 + 0.3 * math.log(10)) - 0.5 * math.log(10)
        assert ratio(scorer, enrolled, heard) == pytest.approx(expected, abs=1e-4)


def test_served_scores_are_those_of_the_offline_normalisation(contract: Contract) -> None:
    """Within 1e-5, with a calibration that leaves the score as it is."""
    alone = Calibration(0.0, {"cosine": 1.0}, (), "made", ScoreKind.AS_NORM)
    scorer = Scorer(replace(contract, calibration=alone))
    enrolled, heard = voices(8, seed=4), voices(9, seed=5)
    enrol, test = (side.ravel() for side in np.indices((8, 9)))
    plain = np.sum(enrolled[enrol] * heard[test], axis=1, dtype=float)
    sides = ((enrolled, enrol), (heard, test))
    offline = normalization.normalize(Norm.AS, plain, *sides, COHORT, top_n=TOP)
    served = [ratio(scorer, enrolled[e], heard[t]) for e, t in zip(enrol, test, strict=True)]
    assert served == pytest.approx(offline, abs=1e-5)
    assert np.abs(offline - plain).max() > 1


def test_a_cohort_counts_only_where_the_calibration_says_so(contract: Contract) -> None:
    plain = replace(AS_NORM, score=ScoreKind.COSINE)
    one, other = voices(2, seed=6)
    scorer = Scorer(replace(contract, calibration=plain))
    assert ratio(scorer, one, other) == ratio(
        Scorer(replace(contract, calibration=plain, cohort=None)), one, other
    )
    assert not scorer.normalizes
    assert scorer.statistics(one) is NO_COHORT
    assert scorer.all_statistics(COHORT[:2]) == [NO_COHORT, NO_COHORT]
    assert Scorer(contract).normalizes


def test_no_cohort_leaves_a_cosine_as_it_is() -> None:
    assert [NO_COHORT.normalize(x) for x in (-1.0, 0.1, 1 / 3, 1.0)] == [-1.0, 0.1, 1 / 3, 1.0]
    assert CohortStatistics(0.2, 0.1).normalize(0.5) == pytest.approx(3.0)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Vector]:
    """The vectors whose standing was computed."""
    computed: list[Vector] = []

    def cohort_statistics(vectors: Vector, cohort: Vector, top_n: int) -> tuple[object, object]:
        computed.extend(vectors)
        return original(vectors, cohort, top_n)

    original = scoring.cohort_statistics
    monkeypatch.setattr(scoring, "cohort_statistics", cohort_statistics)
    return computed


def test_a_voice_that_is_compared_again_stands_where_it_stood(
    contract: Contract, found: list[Vector]
) -> None:
    scorer = Scorer(contract)
    enrolled, *calls = voices(6, seed=7)
    for heard in calls:
        ratio(scorer, enrolled.copy(), heard)
    assert len(found) == 1 + len(calls)


def test_as_many_standings_are_kept_as_there_is_room_for(
    contract: Contract, found: list[Vector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_STATISTICS_CACHED", 3)
    scorer = Scorer(contract)
    one, *others = voices(5, seed=8)
    for other in others:  # one is used all the time, so it stays
        assert scorer.statistics(one) == scorer.statistics(one)
        scorer.statistics(other)
    assert len(found) == 5
    scorer.statistics(others[0])
    assert len(found) == 6


def test_a_crowd_stands_as_each_of_it_does(contract: Contract) -> None:
    scorer, many = Scorer(contract), voices(7, seed=9)
    for standing, vector in zip(scorer.all_statistics(many), many, strict=True):
        alone = Scorer(contract).statistics(vector)
        assert standing.mean == pytest.approx(alone.mean, abs=1e-6)
        assert standing.deviation == pytest.approx(alone.deviation, abs=1e-6)


def test_an_identical_cohort_gives_finite_scores(contract: Contract) -> None:
    same = np.repeat(COHORT[:1], 20, axis=0)
    cohort = Cohort(same.astype("<f4").tobytes(), 20, TOP, "made")
    scorer = Scorer(replace(contract, cohort=cohort))
    assert math.isfinite(ratio(scorer, COHORT[1], COHORT[2]))


def test_the_windows_of_a_recording_stand_where_its_embedding_does(contract: Contract) -> None:
    (vector,) = voices(1, seed=10)
    scorer = Scorer(contract)
    for coherence in (0.3, 0.7, 1.0):
        score = naive_view(coherence, vector)
        expected = -1.0 + score * (2.0 + 0.3 * math.log(2)) - 0.5 * math.log(2)
        assert scorer.coherence_llr(vector, coherence) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("weight", [{"snr": -0.3}, {"log_test_speech": -0.1}])
def test_a_calibration_by_which_poor_quality_helps_is_not_served(
    contract: Contract, weight: dict[str, float]
) -> None:
    """A caller chooses how much to say and in how much noise."""
    calibration = Calibration(-3.0, {"cosine": 12.5, **weight}, (), "made")
    with pytest.raises(ContractError, match=r"heard worse.*sayso-export calibrate"):
        Scorer(replace(contract, calibration=calibration))
