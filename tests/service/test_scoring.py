import math

import numpy as np
import pytest

from service.contract import Calibration
from service.scoring import TERMS, Measures, cosine, l2_normalized, log_likelihood_ratio, voice

MEASURES = Measures(cosine=0.5, enrol_speech_s=10.0, test_speech_s=2.0, snr_db=15.0)


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
    made = voice(vectors, np.array([3, 1], np.float32))
    assert made == pytest.approx(np.array([3, 1]) / math.sqrt(10))


def test_a_zero_vector_stays_zero() -> None:
    assert not l2_normalized(np.zeros((2, 3), np.float32)).any()


def test_a_cosine_never_exceeds_one() -> None:
    vector = l2_normalized(np.full(192, 0.1, np.float32))
    assert cosine(vector, vector * np.float32(1.000001)) == 1.0
    assert cosine(vector, -vector) == pytest.approx(-1.0)
