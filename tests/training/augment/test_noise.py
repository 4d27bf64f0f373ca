from __future__ import annotations

import numpy as np
import pytest

from tests.support.waveforms import noise, recordings
from training.augment import measure_rms
from training.augment.noise import add_noise, mix_babble


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5])
def test_noise_lies_at_the_drawn_ratio(snr_db: float) -> None:
    speech = noise(0)
    added = add_noise(speech, noise(1, gain=0.3), snr_db) - speech
    assert 20 * np.log10(measure_rms(speech) / measure_rms(added)) == pytest.approx(
        snr_db, abs=0.01
    )


def test_silent_noise_changes_nothing() -> None:
    assert np.array_equal(add_noise(noise(0), np.zeros(16000, np.float32), 0.0), noise(0))


def test_voices_of_babble_are_equally_loud() -> None:
    loud, quiet = recordings(0)[0] * 4, recordings(5)[0]
    many = mix_babble([loud, quiet], 400, 16000, np.random.default_rng(0))
    correlations = [np.corrcoef(many, np.resize(voice, 16000))[0, 1] for voice in (loud, quiet)]
    assert correlations[0] == pytest.approx(correlations[1], abs=0.15)
    assert measure_rms(mix_babble([loud], 1, 12000, np.random.default_rng(0))) == pytest.approx(
        1.0, abs=1e-3
    )
