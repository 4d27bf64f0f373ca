"""A recording played by a loudspeaker and recorded again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from training.augment.handset import draw_handset, equalize
from training.augment.rooms import draw_room_response, reverberate
from training.augment.waveform import Rng, Waveform, measure_rms
from training.config import Range


@dataclass(frozen=True, slots=True)
class Setting:
    """What a replay is drawn from: the loudspeaker's lowest frequency and its drive (1 is its
    limit), the room between it and the microphone, and the microphone's signal-to-noise ratio."""

    low_hz_range: Range
    drive_range: Range
    rt60_s_range: Range
    direct_db_range: Range
    snr_db_range: Range


NEAR = Setting((180.0, 600.0), (0.5, 2.0), (0.1, 0.4), (0.0, 12.0), (20.0, 40.0))
FAR = Setting((60.0, 180.0), (0.3, 1.0), (0.3, 0.8), (-6.0, 0.0), (15.0, 30.0))


def play_again(speech: Waveform, rate_hz: int, rng: Rng, setting: Setting) -> Waveform:
    """Play through a small loudspeaker into a room, and record it there.

    The loudspeaker loses its lows by 12 dB an octave, resonates above them, colors the rest
    unevenly and saturates; the room is Polack's; the microphone colors and adds its noise.
    """
    low_hz = rng.uniform(*setting.low_hz_range)
    high_hz = rng.uniform(0.35, 0.48) * rate_hz
    band = signal.butter(2, (low_hz, high_hz), "bandpass", fs=rate_hz, output="sos")
    played = signal.sosfilt(band, speech)
    # a driver in a small box rings a little above where its lows end
    ring = signal.iirpeak(low_hz * rng.uniform(1.2, 2.5), rng.uniform(2.0, 6.0), fs=rate_hz)
    played = played + rng.uniform(0.3, 1.2) * signal.lfilter(*ring, played)
    played = equalize(played.astype(np.float32), *draw_handset(rng, 5.0, rate_hz), rate_hz)
    drive = rng.uniform(*setting.drive_range) / max(float(np.abs(played).max()), 1e-6)
    # even and odd harmonics, as a driver's stiffness makes them
    played = np.tanh(played * drive + 0.1 * np.square(played * drive)).astype(np.float32)
    room = draw_room_response(
        rng.uniform(*setting.rt60_s_range), rng.uniform(*setting.direct_db_range), rate_hz, rng
    )
    heard = reverberate(played, room)
    heard = equalize(heard, *draw_handset(rng, 3.0, rate_hz), rate_hz)
    noise = rng.standard_normal(heard.size) * measure_rms(heard)
    noisy = heard + noise * 10 ** (-rng.uniform(*setting.snr_db_range) / 20)
    return np.asarray(noisy * (measure_rms(speech) / max(measure_rms(noisy), 1e-8)), np.float32)
