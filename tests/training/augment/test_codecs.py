from __future__ import annotations

import numpy as np
import pytest

from tests.support.waveforms import RATE_HZ, noise, power_db, tone
from training.augment import measure_rms
from training.augment.codecs import CODECS, Codec

every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


@every_codec
def test_a_tone_survives_in_its_place_and_noise_is_changed(codec: Codec) -> None:
    speech = tone(440.0)
    heard = codec(speech, RATE_HZ, np.random.default_rng(0))
    middle = slice(4000, 12000)
    assert measure_rms(heard[middle]) == pytest.approx(measure_rms(speech[middle]), rel=0.2)
    lags = np.correlate(heard[middle], speech[3900:12100].astype(np.float32), "valid")
    assert np.abs(lags).max() > 0.9 * np.linalg.norm(heard[middle]) * np.linalg.norm(speech[middle])
    hiss = noise(0)
    assert np.abs(codec(hiss, RATE_HZ, np.random.default_rng(0)) - hiss).max() > 0.01


@every_codec
@pytest.mark.parametrize("samples", [1, 4001, 16000])
def test_same_seed_same_length_and_the_telephone_band(codec: Codec, samples: int) -> None:
    speech = noise(0, samples)
    once, again = (codec(speech, RATE_HZ, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(once, again)
    assert once.shape == speech.shape
    assert once.dtype == np.float32
    if samples > 4000:
        assert power_db(once, 4200, 8000) < power_db(speech, 4200, 8000) - 30
