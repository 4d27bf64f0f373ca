from __future__ import annotations

import numpy as np
import pytest

from training.augment.waveform import measure_rms
from training.spoofs import replay

RATE_HZ = 16000


def share_below(speech: np.ndarray, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(speech)) ** 2
    frequencies = np.fft.rfftfreq(speech.size, 1 / RATE_HZ)
    return float(power[frequencies < high_hz].sum() / power.sum())


def test_a_small_loudspeaker_loses_lows_and_keeps_the_level() -> None:
    speech = np.cumsum(np.random.default_rng(0).standard_normal(2 * RATE_HZ))
    speech = (0.05 * (speech - speech.mean()) / speech.std()).astype(np.float32)
    heard = replay.play_again(speech, RATE_HZ, np.random.default_rng(1), replay.NEAR)
    assert heard.shape == speech.shape
    assert measure_rms(heard) == pytest.approx(measure_rms(speech), rel=1e-3)
    assert share_below(heard, 100.0) < 0.5 * share_below(speech, 100.0)


def test_replays_differ_by_generator_alone() -> None:
    speech = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32) * 0.05
    one, same, other = (
        replay.play_again(speech, RATE_HZ, np.random.default_rng(seed), replay.FAR)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)
