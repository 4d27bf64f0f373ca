from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.support.waveforms import RATE_HZ, noise
from training.augment import measure_rms
from training.augment.rooms import (
    SOUND_M_PER_S,
    Shoebox,
    compute_image_response,
    draw_room_response,
    make_rooms,
    reverberate,
)

OFFICE = Shoebox(
    size_m=np.array([5.0, 4.0, 3.0]),
    mouth_m=np.array([1.5, 2.0, 1.6]),
    microphone_m=np.array([2.5, 2.5, 1.0]),
    rt60_s=0.5,
)


def test_reverberation_is_a_convolution_at_the_same_level() -> None:
    speech = noise(0, 500)
    response = draw_room_response(0.01, 0.0, RATE_HZ, np.random.default_rng(3))
    naive = [
        sum(response[k] * speech[n - k] for k in range(min(n + 1, response.size)))
        for n in range(speech.size)
    ]
    expected = np.array(naive) * measure_rms(speech) / measure_rms(np.array(naive, np.float32))
    assert reverberate(speech, response) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("direct_db", [-3.0, 6.0])
def test_room_has_the_drawn_ratio_and_decay(direct_db: float) -> None:
    response = draw_room_response(0.5, direct_db, RATE_HZ, np.random.default_rng(0))
    tail = response[1:]
    assert response[0] == 1.0
    assert -10 * np.log10(np.sum(tail**2)) == pytest.approx(direct_db, abs=1e-6)
    early, late = np.sum(tail[:2000] ** 2), np.sum(tail[4000:6000] ** 2)
    assert 10 * np.log10(early / late) == pytest.approx(60 * 0.25 / 0.5, abs=2)


def test_first_echoes_come_from_the_six_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.augment.rooms.IMAGE_JITTER_M", 0.0)
    response = compute_image_response(OFFICE, RATE_HZ, np.random.default_rng(0))
    direct_m = np.linalg.norm(OFFICE.mouth_m - OFFICE.microphone_m)
    echoes = []
    for axis, far in itertools.product(range(3), (False, True)):
        image = OFFICE.mouth_m.copy()
        image[axis] = (2 * OFFICE.size_m[axis] if far else 0.0) - image[axis]
        distance_m = np.linalg.norm(image - OFFICE.microphone_m)
        place = round((distance_m - direct_m) / SOUND_M_PER_S * RATE_HZ)
        echoes.append((place, OFFICE.reflection * direct_m / distance_m))
    first = min(echoes)[0]
    assert response[0] == 1.0
    assert not response[1:first].any()
    for place, gain in echoes:
        assert response[place] >= gain - 1e-6


@pytest.mark.parametrize("rt60_s", [0.2, 0.5, 0.9])
def test_boxes_decay_as_they_were_asked_to(rt60_s: float) -> None:
    room = Shoebox(OFFICE.size_m, OFFICE.mouth_m, OFFICE.microphone_m, rt60_s)
    response = compute_image_response(room, RATE_HZ, np.random.default_rng(0)).astype(np.float64)
    remaining_db = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] + 1e-12)
    later = slice(round(room.mixing_s * RATE_HZ), round(0.7 * rt60_s * RATE_HZ))
    slope_db = np.polyfit(np.arange(response.size)[later] / RATE_HZ, remaining_db[later], 1)[0]
    assert -60 / slope_db == pytest.approx(rt60_s, rel=0.15)


def test_a_closer_mouth_is_drier() -> None:
    def reverberant(microphone_m: list[float]) -> float:
        room = Shoebox(OFFICE.size_m, OFFICE.mouth_m, np.array(microphone_m), 0.5)
        return float(
            np.sum(compute_image_response(room, RATE_HZ, np.random.default_rng(0))[1:] ** 2)
        )

    assert reverberant([1.6, 2.0, 1.6]) < reverberant([2.5, 2.0, 1.6]) / 10


def test_a_bank_is_seeded_and_its_rooms_differ() -> None:
    once, again = (make_rooms(12, (0.1, 0.7), RATE_HZ, np.random.default_rng(4)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    assert len({response.tobytes() for response in once}) == 12
    for response in once:
        assert np.isfinite(response).all()
        assert np.abs(response).max() < 3


def test_drawn_rooms_hold_mouth_and_microphone() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        room = Shoebox.draw((0.1, 0.7), rng)
        for place_m in (room.mouth_m, room.microphone_m):
            assert (place_m > 0.1).all()
            assert (place_m < room.size_m - 0.1).all()
