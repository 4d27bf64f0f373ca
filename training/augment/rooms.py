"""Rooms: Polack's statistical model, and boxes by their images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import signal

from training.augment.waveform import SILENCE, Rng, Waveform, measure_rms
from training.config import Range

Response = npt.NDArray[np.floating]

SOUND_M_PER_S = 343.0
SABINE_S_PER_M = 0.161
IMAGE_JITTER_M = 0.08
WALL_MARGIN_M = 0.2
SMALLEST_M, LARGEST_M = (2.4, 2.2, 2.2), (9.0, 7.0, 3.6)
MOUTH_TO_MICROPHONE_M = (0.1, 2.5)


def draw_room_response(
    rt60_s: float, direct_db: float, sample_rate_hz: int, rng: Rng
) -> npt.NDArray[np.float64]:
    """A direct path, then exponentially decaying Gaussian noise: Polack's statistical room model.

    `direct_db` is the direct-to-reverberant energy ratio (Polack 1988, "La transmission de
    l'energie sonore dans les salles"); the tail is cut at 60 dB below its start.
    """
    time_s = np.arange(1, max(2, round(rt60_s * sample_rate_hz))) / sample_rate_hz
    tail = rng.standard_normal(time_s.size) * 10 ** (-3 * time_s / rt60_s)
    tail *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(np.square(tail)))
    return np.concatenate([[1.0], tail])


def reverberate(speech: Waveform, response: Response) -> Waveform:
    """Convolve, cut to the length of the speech and restore its level."""
    wet = signal.oaconvolve(speech, response)[: speech.size]
    return np.asarray(wet * (measure_rms(speech) / max(measure_rms(wet), SILENCE)), np.float32)


@dataclass(frozen=True, slots=True)
class Shoebox:
    """A room whose walls reflect alike: its size, and where mouth and microphone are (3,), in
    meters."""

    size_m: npt.NDArray[np.float64]
    mouth_m: npt.NDArray[np.float64]
    microphone_m: npt.NDArray[np.float64]
    rt60_s: float

    @classmethod
    def draw(cls, rt60_s_range: Range, rng: Rng) -> Shoebox:
        """Draw a small office to a meeting room, and a telephone from handset to table."""
        size_m = rng.uniform(SMALLEST_M, LARGEST_M)
        walls_m = (np.full(3, WALL_MARGIN_M), size_m - WALL_MARGIN_M)
        mouth_m = rng.uniform(*walls_m)
        direction = rng.standard_normal(3)
        distance_m = np.exp(rng.uniform(*np.log(MOUTH_TO_MICROPHONE_M)))
        microphone_m = mouth_m + direction / np.linalg.norm(direction) * distance_m
        outside = (microphone_m < walls_m[0]) | (microphone_m > walls_m[1])
        microphone_m = np.where(outside, 2 * mouth_m - microphone_m, microphone_m)
        return cls(size_m, mouth_m, np.clip(microphone_m, *walls_m), rng.uniform(*rt60_s_range))

    @property
    def reflection(self) -> float:
        """The walls' amplitude reflection, by Eyring's formula for the reverberation time."""
        length, width, height = self.size_m
        surface_m2 = 2 * (length * width + width * height + height * length)
        exponent = SABINE_S_PER_M * self.size_m.prod() / (surface_m2 * self.rt60_s)
        return float(np.exp(-exponent / 2))

    @property
    def mixing_s(self) -> float:
        """When single echoes blur into a tail: about five a millisecond by then, in any room."""
        return 3e-3 * float(np.sqrt(self.size_m.prod()))


def compute_image_response(room: Shoebox, sample_rate_hz: int, rng: Rng) -> npt.NDArray[np.float32]:
    """Images of the mouth up to the mixing time, then a noise tail that carries on their decay.

    It begins at the direct path, of height 1. Allen and Berkley 1979, "Image method for
    efficiently simulating small-room acoustics"; images are moved a little at random, which
    breaks up the sweeping echoes of a perfect box (De Sena et al. 2015).
    """
    reach_m = SOUND_M_PER_S * room.mixing_s + float(
        np.linalg.norm(room.mouth_m - room.microphone_m)
    )
    distance_m, walls = _images(room, reach_m)
    direct = int(np.argmin(walls))
    direct_m = max(float(distance_m[direct]), 1e-2)
    jitter_m = rng.uniform(-IMAGE_JITTER_M, IMAGE_JITTER_M, distance_m.size)
    later_m = np.maximum(distance_m + jitter_m - direct_m, 0.0)
    later_m[direct] = 0.0
    gains = room.reflection**walls * direct_m / np.maximum(distance_m, direct_m)
    places = np.rint(later_m / SOUND_M_PER_S * sample_rate_hz).astype(np.int64)
    early_samples = max(3, round(room.mixing_s * sample_rate_hz))
    is_early = places < early_samples
    early = np.zeros(early_samples)
    np.add.at(early, places[is_early], gains[is_early])
    tail = _tail(early, room.rt60_s, sample_rate_hz, rng)
    return np.concatenate([early, tail]).astype(np.float32)


def _images(room: Shoebox, reach_m: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The distance of each image within reach, and the number of walls on its way."""
    offsets, orders = [], []
    for size_m, mouth_m, ear_m in zip(room.size_m, room.mouth_m, room.microphone_m, strict=True):
        furthest = int(reach_m / size_m) + 1
        cells = np.arange(-furthest, furthest + 1)
        inside_m = np.where(cells % 2, size_m - mouth_m, mouth_m)
        offsets.append(cells * size_m + inside_m - ear_m)
        orders.append(np.abs(cells))
    east, north, up = np.meshgrid(*offsets, indexing="ij")
    distance_m = np.sqrt(east**2 + north**2 + up**2).ravel()
    walls = np.add.outer(np.add.outer(orders[0], orders[1]), orders[2]).ravel()
    near = (distance_m <= reach_m) | (walls == 0)
    return distance_m[near], walls[near]


def _tail(
    early: npt.NDArray[np.float64], rt60_s: float, sample_rate_hz: int, rng: Rng
) -> npt.NDArray[np.float64]:
    """Decaying noise that begins as strong as the last half of the early echoes."""
    half = early.size // 2
    last = early[half:]
    time_s = np.arange(max(0, round(rt60_s * sample_rate_hz) - early.size)) / sample_rate_hz
    since_s = time_s + last.size / 2 / sample_rate_hz
    return rng.standard_normal(time_s.size) * measure_rms(last) * 10 ** (-3 * since_s / rt60_s)


def make_rooms(
    rooms: int, rt60_s_range: Range, sample_rate_hz: int, rng: Rng
) -> tuple[npt.NDArray[np.float32], ...]:
    """Compute the responses of drawn shoebox rooms once, to draw from."""
    return tuple(
        compute_image_response(Shoebox.draw(rt60_s_range, rng), sample_rate_hz, rng)
        for _ in range(rooms)
    )
