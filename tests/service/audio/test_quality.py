from dataclasses import astuple
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.audio.quality import SAMPLE_RATE, Frame, QualityMeter, measure_levels

FRAME_SAMPLES = 512
NEAR_FRAMES = 10
SILENT_DB = -95
NOTHING = np.zeros(0, np.float32)

Heard = tuple[Frame, bool]  # and whether it is of speech


def _level(power: float) -> int:
    return round(100 + float(np.clip(10 * np.log10(max(power, 1e-20)), -100, 20)))


def _tone(hertz: float, amplitude: float, frames: int = 50) -> np.ndarray:
    t = np.arange(frames * FRAME_SAMPLES) / SAMPLE_RATE
    wave = amplitude * np.sin(2 * np.pi * hertz * t)
    return wave.astype(np.float32).reshape(frames, FRAME_SAMPLES)


def _noise(level_db: float, frames: int = 50) -> np.ndarray:
    noise = np.random.default_rng(3).standard_normal((frames, FRAME_SAMPLES))
    return (10 ** (level_db / 20) * noise).astype(np.float32)


@pytest.mark.parametrize("hertz", [200, 440, 3_000])
@pytest.mark.parametrize("level_db", [-70, -20, 0])
def test_a_level_is_the_nearest_decibel_of_what_is_above_100_hz(
    hertz: float, level_db: float
) -> None:
    found = measure_levels(_tone(hertz, np.sqrt(2) * 10 ** (level_db / 20)))
    assert np.median(found) - 100 == pytest.approx(level_db, abs=1)


@pytest.mark.parametrize("added", [0.1, _tone(50, 0.1), _tone(60, 0.1), _tone(30, 0.1)])
def test_offset_hum_and_rumble_add_nothing_to_a_level(added: np.ndarray | float) -> None:
    alone = measure_levels(_noise(-70))
    assert np.allclose(measure_levels((_noise(-70) + added).astype(np.float32)), alone, atol=1)


def test_padding_makes_the_last_frame_no_quieter() -> None:
    frames = _noise(-40)
    frames[:, 100:] = 0
    found = measure_levels(frames, padding=FRAME_SAMPLES - 100)
    assert np.median(found) - 100 == pytest.approx(-40, abs=2)


def _naive_percentile(found: list[int], fraction: float) -> float:
    audible = sorted(level for level in found if level - 100 > SILENT_DB)
    below = np.arange(1, len(audible) + 1)
    level = audible[np.argmax(below >= fraction * len(audible))] if audible else 0
    return float(10 ** ((level - 100) / 10))


def _naive_snr_db(heard: list[Heard]) -> float | None:
    voiced = sorted(level for (level, voiced), speech in heard if speech and voiced)
    if not voiced:
        return None
    spoken = [index for index, (_, speech) in enumerate(heard) if speech]
    near = [
        level
        for index, ((level, _), speech) in enumerate(heard)
        if not speech
        and min(abs(index - other) for other in spoken) <= NEAR_FRAMES
        and level - 100 > SILENT_DB
    ]
    floor = _naive_percentile([level for (level, _), speech in heard if speech], 0.1)
    if len(near) >= 10:
        floor = min(floor, _naive_percentile(near, 0.5))
    below = np.arange(1, len(voiced) + 1)
    signal = 10 ** ((voiced[np.argmax(below >= 0.7 * len(voiced))] - 100) / 10)
    ratio = max(signal - floor, 1e-20) / floor
    return float(np.clip(10 * np.log10(ratio), -10, 60))


FRAMES = st.builds(
    lambda power_db, voiced: (_level(10 ** (power_db / 10)), voiced),
    st.floats(-130, 40),
    st.booleans(),
)


def _hear(meter: QualityMeter, heard: list[Heard], at_once: int) -> None:
    for start in range(0, len(heard), at_once):
        piece = heard[start : start + at_once]
        for speech, stretch in groupby(piece, key=lambda frame: frame[1]):
            frames = [frame for frame, _ in stretch]
            meter.add_speech(NOTHING, frames) if speech else meter.add_pause(frames)


@given(
    stretches=st.lists(st.tuples(st.lists(FRAMES, max_size=30), st.booleans()), max_size=6),
    at_once=st.integers(1, 60),
)
@settings(deadline=None)
def test_snr_is_the_naive_one(stretches: list[tuple[list[Frame], bool]], at_once: int) -> None:
    heard = [(frame, speech) for frames, speech in stretches for frame in frames]
    meter, one_by_one = QualityMeter(), QualityMeter()
    _hear(meter, heard, at_once)
    _hear(one_by_one, heard, 1)
    assert meter.quality() == one_by_one.quality()
    assert meter.quality().snr_db == pytest.approx(_naive_snr_db(heard), abs=1e-9)


@pytest.mark.parametrize(("quiet_db", "snr_db"), [(-90, 60), (-20, -10)])
def test_snr_is_bounded(quiet_db: int, snr_db: int) -> None:
    meter = QualityMeter()
    meter.add_pause([(100 + quiet_db, False)] * 10)
    meter.add_speech(NOTHING, [(100 - 20, True)] * 10)
    assert meter.quality().snr_db == snr_db


def test_digital_silence_is_no_noise() -> None:
    meter = QualityMeter()
    meter.add_pause([(0, False)] * 30)
    meter.add_speech(NOTHING, [(100 - 60, False), (100 - 60, False), *[(100 - 20, True)] * 18])
    assert meter.quality().snr_db == pytest.approx(40, abs=0.1)


def test_clipping_is_counted_in_speech_and_the_peak_in_everything() -> None:
    meter = QualityMeter()
    for loudest in (0.5, -0.98, 0.98, 0.1):
        samples = np.full(100, loudest / 2, np.float32)
        samples[7] = loudest
        meter.add(samples)
        if loudest > 0:
            meter.add_speech(samples, [])
    meter.add(NOTHING)
    expected = (300 / SAMPLE_RATE, 400 / SAMPLE_RATE, None, 1 / 300, 20 * np.log10(0.98))
    assert astuple(meter.quality())[:5] == pytest.approx(expected)
