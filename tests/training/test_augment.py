from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from training.augment import (
    Channel,
    Waveform,
    a_law,
    add_noise,
    at_level,
    equalise,
    mu_law,
    reverberate,
    rms,
    room_response,
    telephone,
    wrapped,
)
from training.config import Augmentation

RATE_HZ = 16000
QUIET = Augmentation(noise=0, babble=0, room=0, equaliser=0, telephone=0)


def noise(seed: int, samples: int = 16000, gain: float = 0.05) -> Waveform:
    return np.random.default_rng(seed).normal(0, gain, samples).astype(np.float32)


def power_db(waveform: Waveform, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(waveform.astype(np.float64))) ** 2
    bins_hz = np.linspace(0, RATE_HZ / 2, power.size)
    return float(10 * np.log10(power[(bins_hz >= low_hz) & (bins_hz < high_hz)].mean() + 1e-20))


def recordings(seed: int) -> list[npt.NDArray[np.int16]]:
    return [(noise(seed + i, 12000) * 32767).astype(np.int16) for i in range(3)]


def channel(settings: Augmentation) -> Channel:
    return Channel(settings, RATE_HZ, recordings(10), recordings(20))


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5])
def test_noise_lies_at_the_drawn_ratio(snr_db: float) -> None:
    speech = noise(0)
    added = add_noise(speech, noise(1, gain=0.3), snr_db) - speech
    assert 20 * np.log10(rms(speech) / rms(added)) == pytest.approx(snr_db, abs=0.01)


def test_silent_noise_changes_nothing() -> None:
    assert np.array_equal(add_noise(noise(0), np.zeros(16000, np.float32), 0.0), noise(0))


@pytest.mark.parametrize("samples", [5, 12, 30])
def test_crops_wrap_and_keep_their_place(samples: int) -> None:
    audio = (np.arange(12) * 1000).astype(np.int16)
    cut = np.rint(wrapped(audio, samples, 1.0) * 32768).astype(int)
    expected = [audio[(max(0, 12 - samples) + i) % 12] for i in range(samples)]
    assert cut.tolist() == expected


def test_reverberation_is_a_convolution_at_the_same_level() -> None:
    speech = noise(0, 500)
    response = room_response(0.01, 0.0, RATE_HZ, np.random.default_rng(3))
    naive = [
        sum(response[k] * speech[n - k] for k in range(min(n + 1, response.size)))
        for n in range(speech.size)
    ]
    expected = np.array(naive) * rms(speech) / rms(np.array(naive, np.float32))
    assert reverberate(speech, response) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("direct_db", [-3.0, 6.0])
def test_room_has_the_drawn_ratio_and_decay(direct_db: float) -> None:
    response = room_response(0.5, direct_db, RATE_HZ, np.random.default_rng(0))
    tail = response[1:]
    assert response[0] == 1.0
    assert -10 * np.log10(np.sum(tail**2)) == pytest.approx(direct_db, abs=1e-6)
    early, late = np.sum(tail[:2000] ** 2), np.sum(tail[4000:6000] ** 2)
    assert 10 * np.log10(early / late) == pytest.approx(60 * 0.25 / 0.5, abs=2)


def test_equaliser_follows_its_curve() -> None:
    shaped = equalise(noise(0), np.array([100.0, 8000.0]), np.array([0.0, -30.0]), RATE_HZ)
    for low_hz, high_hz in ((150, 200), (880, 920), (6000, 6100)):
        centre_hz = np.sqrt(low_hz * high_hz)
        expected = -30 * np.log(centre_hz / 100) / np.log(80)
        change_db = power_db(shaped, low_hz, high_hz) - power_db(noise(0), low_hz, high_hz)
        assert change_db == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("law", [mu_law, a_law])
def test_companding_keeps_38_db_over_a_wide_range_and_is_monotonic(
    law: Callable[[Waveform], Waveform],
) -> None:
    for level in (0.3, 0.1, 0.03):
        tone = (level * np.sin(np.arange(8000) * 0.7)).astype(np.float32)
        error = law(tone) - tone
        assert 20 * np.log10(rms(tone) / rms(error)) > 36
    ramp = law(np.linspace(-1.2, 1.2, 100001, dtype=np.float32))
    assert (np.diff(ramp) >= 0).all()
    assert len(np.unique(ramp)) in (255, 256)
    assert np.abs(ramp).max() <= 1.0


@pytest.mark.parametrize("law", [mu_law, a_law])
def test_telephone_keeps_the_band_and_kills_what_is_above(
    law: Callable[[Waveform], Waveform],
) -> None:
    speech = noise(0, 16001)
    heard = telephone(speech, RATE_HZ, low_hz=300.0, high_hz=3400.0, companding=law)
    assert heard.shape == speech.shape
    assert power_db(heard, 1000, 3000) == pytest.approx(power_db(speech, 1000, 3000), abs=0.3)
    assert power_db(heard, 4005, 8000) < power_db(speech, 4005, 8000) - 60
    assert power_db(heard, 0, 100) < power_db(speech, 0, 100) - 25


def test_level_is_within_the_range() -> None:
    for seed in range(10):
        level_db = 20 * np.log10(
            rms(at_level(noise(0), (-30.0, -20.0), np.random.default_rng(seed)))
        )
        assert -30.01 <= level_db <= -19.99


EVERYTHING = Augmentation(noise=1, babble=1, room=1, equaliser=1, telephone=1)


@pytest.mark.parametrize("samples", [4000, 16001, 32000])
@pytest.mark.parametrize("settings", [QUIET, Augmentation(), EVERYTHING])
def test_channel_is_seeded_and_keeps_shape_and_range(settings: Augmentation, samples: int) -> None:
    speech, send = noise(0, samples), channel(settings)
    once, again = (send(speech, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, send(speech, np.random.default_rng(6)))
    assert once.shape == speech.shape
    assert once.dtype == np.float32
    assert np.isfinite(once).all()
    assert np.abs(once).max() <= 1.0


def test_quiet_channel_only_sets_the_level() -> None:
    speech = noise(0)
    heard = channel(QUIET)(speech, np.random.default_rng(0))
    assert heard / rms(heard) == pytest.approx(speech / rms(speech), abs=1e-4)


@pytest.mark.parametrize("kind", ["noise", "babble", "room", "equaliser", "telephone"])
def test_each_effect_changes_the_voice(kind: str) -> None:
    speech = noise(0)
    heard = channel(QUIET.model_copy(update={kind: 1.0}))(speech, np.random.default_rng(0))
    assert np.corrcoef(speech, heard)[0, 1] < 0.999


def test_silence_goes_through_every_effect() -> None:
    heard = channel(EVERYTHING)(np.zeros(8000, np.float32), np.random.default_rng(0))
    assert np.isfinite(heard).all()
