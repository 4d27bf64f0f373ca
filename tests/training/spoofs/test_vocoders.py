from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
from scipy import signal

from training.augment.waveform import measure_rms
from training.spoofs import vocoders

RATE_HZ = 16000


def make_vowel(pitch_hz: float, seconds: float = 1.0) -> np.ndarray:
    """Pulses through two resonances, with a little noise."""
    rng = np.random.default_rng(0)
    turns = np.floor(np.cumsum(np.full(round(seconds * RATE_HZ), pitch_hz / RATE_HZ)))
    speech = np.diff(turns, prepend=0.0)
    for formant_hz in (600.0, 1500.0):
        angle, radius = 2 * np.pi * formant_hz / RATE_HZ, 0.96
        speech = signal.lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], speech)
    speech = speech + 1e-3 * rng.standard_normal(speech.size) * np.abs(speech).max()
    return (0.1 * speech / measure_rms(speech)).astype(np.float32)


def require_world() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("pyworld")


def find_pitch(speech: np.ndarray) -> float:
    middle = speech[4000:12000].astype(np.float64)
    lags = signal.fftconvolve(middle, middle[::-1])[middle.size :]
    first, last = RATE_HZ // 400, RATE_HZ // 60
    return RATE_HZ / (first + int(np.argmax(lags[first:last])) + 1)


def test_world_copies_and_converts_pitch() -> None:
    require_world()
    low, high = make_vowel(100.0), make_vowel(180.0)
    copied = vocoders.copy_by_world(low, RATE_HZ)
    converted = vocoders.convert_by_world(low, high, RATE_HZ)
    assert copied.shape == converted.shape == low.shape
    assert not np.allclose(copied, low, atol=1e-3)
    assert find_pitch(copied) == pytest.approx(100.0, rel=0.03)
    assert find_pitch(converted) == pytest.approx(180.0, rel=0.05)


def test_linear_prediction_keeps_pitch_and_level() -> None:
    require_world()
    speech = make_vowel(120.0)
    made = vocoders.predict_linearly(speech, RATE_HZ, np.random.default_rng(1))
    assert made.shape == speech.shape
    assert find_pitch(made) == pytest.approx(120.0, rel=0.04)
    assert measure_rms(made) == pytest.approx(measure_rms(speech), rel=0.5)


def test_moved_pitch_has_the_others_moments_and_stays_unvoiced() -> None:
    own, other = np.array([0.0, 90.0, 100.0, 110.0]), np.array([180.0, 0.0, 220.0])
    moved = vocoders.move_pitch(own, other)
    logs, wanted = np.log(moved[1:]), np.log(other[[0, 2]])
    assert moved[0] == 0
    assert logs.mean() == pytest.approx(wanted.mean())
    assert logs.std() == pytest.approx(wanted.std())
    assert np.array_equal(vocoders.move_pitch(np.zeros(3), other), np.zeros(3))


def test_stretched_envelope_moves_a_peak() -> None:
    envelope = np.zeros((1, 101))
    envelope[0, 40] = 1.0
    assert int(np.argmax(vocoders.stretch_envelope(envelope, 1.25))) == 50


def test_griffin_lim_repeats_by_seed() -> None:
    speech = make_vowel(120.0, 0.5)
    one, same, other = (
        vocoders.rebuild_phase(speech, RATE_HZ, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.skipif(shutil.which("c2enc") is None, reason="codec2 is not installed")
def test_codec2_keeps_length_and_loses_what_is_above_4_khz() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32) * 0.1
    made = vocoders.code_by_codec2(noise, RATE_HZ, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(made)) ** 2
    assert made.shape == noise.shape
    assert power[4200:].sum() < 0.01 * power.sum()
