from collections.abc import Sequence
from dataclasses import astuple
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.quality import SAMPLE_RATE, Frame, Meter, loudness

FRAME_SAMPLES = 512
NOTHING = np.zeros(0, np.float32)


def _naive_level(power: float) -> int:
    return round(2 * (100 + np.clip(10 * np.log10(max(power, 1e-20)), -100, 20)))


def _naive_percentile(levels: Sequence[int], fraction: float) -> float:
    below = np.arange(1, len(levels) + 1)
    return float(
        10 ** ((sorted(levels)[np.argmax(below >= fraction * len(levels))] / 2 - 100) / 10)
    )


def _naive_snr_db(speech: list[Frame], noise: list[Frame]) -> float | None:
    voiced = [power for power, _, voiced in speech if voiced]
    if not voiced:
        return None
    quiet, fraction = (noise, 0.5) if len(noise) >= 10 else (speech + noise, 0.1)
    floor = _naive_percentile([level for _, level, _ in quiet], fraction)
    signal = max(reduce(add, voiced) / len(voiced) - floor, 1e-20)
    return float(np.clip(10 * np.log10(signal) - 10 * np.log10(floor), -10, 60))


@pytest.mark.parametrize("samples", [1, 100, FRAME_SAMPLES])
def test_loudness_is_power_and_the_nearest_half_decibel(samples: int) -> None:
    rng = np.random.default_rng(samples)
    scales = 10 ** rng.uniform(-7, 2, (500, 1))
    frames = (scales * rng.standard_normal((500, samples))).astype(np.float32)
    frames[0] = 0
    for frame, (power, level) in zip(frames, loudness(frames), strict=True):
        assert power == pytest.approx(np.mean(frame.astype(np.float64) ** 2))
        assert level == _naive_level(power)


FRAMES = st.builds(
    lambda power_db, voiced: (power := 10 ** (power_db / 10), _naive_level(power), voiced),
    st.floats(-130, 40),
    st.booleans(),
)


@given(frames=st.lists(st.tuples(FRAMES, st.booleans()), max_size=60), at_once=st.integers(1, 60))
@settings(deadline=None)
def test_snr_is_the_naive_one(frames: list[tuple[Frame, bool]], at_once: int) -> None:
    speech = [frame for frame, is_speech in frames if is_speech]
    noise = [frame for frame, is_speech in frames if not is_speech]
    meter, one_by_one = Meter(), Meter()
    for start in range(0, len(frames), at_once):
        meter.speech(NOTHING, speech[start : start + at_once])
        meter.no_speech(noise[start : start + at_once])
    for frame, is_speech in frames:
        one_by_one.speech(NOTHING, [frame]) if is_speech else one_by_one.no_speech([frame])
    assert meter.quality() == one_by_one.quality()
    assert meter.quality().snr_db == pytest.approx(_naive_snr_db(speech, noise), abs=1e-9)


def test_clipping_is_counted_in_speech_and_the_peak_in_everything() -> None:
    meter = Meter()
    for loudest in (0.5, -0.98, 0.98, 0.1):
        samples = np.full(100, loudest / 2, np.float32)
        samples[7] = loudest
        meter.hear(samples)
        if loudest > 0:
            meter.speech(samples, [])
    meter.hear(NOTHING)
    expected = (300 / SAMPLE_RATE, 400 / SAMPLE_RATE, None, 1 / 300, 20 * np.log10(0.98))
    assert astuple(meter.quality()) == pytest.approx(expected)
