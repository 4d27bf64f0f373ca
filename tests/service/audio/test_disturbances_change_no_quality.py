"""What a call holds beside the voice changes neither its measured noise nor its decision."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from service.audio.quality import SAMPLE_RATE, Samples
from service.audio.speech import VoiceActivity, extract
from tests.support import voices

CLIPS = [path for who in ("awb", "rms", "slt") for path in voices.clips(who, "")]
ROWS_HZ, COLUMNS_HZ = (697, 770, 852, 941), (1209, 1336, 1477)
DEFAULT_MIN_SNR_DB = 0.0
MAY_RISE_DB, MAY_FALL_DB = 3.0, 8.0

Disturbance = Callable[[Samples], Samples]


def _tone(seconds: float, *hertz: float, level: float = 0.25) -> np.ndarray:
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return np.asarray(level * sum(np.sin(2 * np.pi * each * t) for each in hertz))


def _keypad() -> np.ndarray:
    keys = itertools.islice(zip(itertools.cycle(ROWS_HZ), itertools.cycle(COLUMNS_HZ)), 20)
    pause = np.zeros(SAMPLE_RATE // 10)
    return np.concatenate([piece for key in keys for piece in (_tone(0.2, *key), pause)])


def _noise(seconds: float, level: float) -> np.ndarray:
    return level * np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))


DISTURBANCES: dict[str, Disturbance] = {
    "offset": lambda speech: speech + np.float32(0.04),
    "large offset": lambda speech: speech + np.float32(0.1),
    "hum": lambda speech: speech + _tone(len(speech) / SAMPLE_RATE, 50, level=0.07),
    "hum of 60 Hz": lambda speech: speech + _tone(len(speech) / SAMPLE_RATE, 60, level=0.07),
    "rumble": lambda speech: speech + _tone(len(speech) / SAMPLE_RATE, 30, level=0.14),
    "keypad before": lambda speech: np.concatenate([_keypad(), speech]),
    "ringing before": lambda speech: np.concatenate([_tone(20, 440, 480, level=0.07), speech]),
    "ringing after": lambda speech: np.concatenate([speech, _tone(20, 440, 480, level=0.07)]),
    "zeros before": lambda speech: np.concatenate([np.zeros(10 * SAMPLE_RATE), speech]),
    "noise before": lambda speech: np.concatenate([_noise(10, 0.0178), speech]),
    "hush before": lambda speech: np.concatenate([_noise(10, 3e-5), speech]),
}


@pytest.fixture(scope="module")
def vad() -> VoiceActivity:
    return VoiceActivity.open()


def _snr_db(vad: VoiceActivity, samples: Samples) -> float:
    found = extract(vad, np.clip(samples, -1, 1).astype(np.float32)).quality.snr_db
    assert found is not None
    return found


def _speech(path: Path) -> Samples:
    samples, rate = soundfile.read(path, dtype="float32")
    return np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), np.float32)


@pytest.mark.parametrize("name", DISTURBANCES)
def test_the_ratio_is_that_of_the_voice_alone(vad: VoiceActivity, name: str) -> None:
    for path in CLIPS:
        speech = _speech(path)
        alone_db = _snr_db(vad, speech)
        found_db = _snr_db(vad, DISTURBANCES[name](speech))
        assert -MAY_FALL_DB < found_db - alone_db < MAY_RISE_DB, path
        assert found_db > DEFAULT_MIN_SNR_DB, path


@pytest.mark.parametrize("snr_db", [0, 10, 20])
def test_noise_under_the_voice_is_noise(vad: VoiceActivity, snr_db: int) -> None:
    for path in CLIPS:
        speech = _speech(path)
        power = np.square(extract(vad, speech).samples).mean()
        added = _noise(len(speech) / SAMPLE_RATE, float(np.sqrt(power / 10 ** (snr_db / 10))))
        found_db = _snr_db(vad, speech + added[: len(speech)])
        assert found_db == pytest.approx(snr_db, abs=4), path
