"""The stages between a mouth and a recording, each drawn for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.augment.codecs import CODECS
from training.augment.handset import draw_handset, equalize
from training.augment.levels import drift, set_level
from training.augment.noise import add_noise, cut, mix_babble
from training.augment.packets import PACKET_S, conceal, draw_lost_packets
from training.augment.rooms import draw_room_response, make_rooms, reverberate
from training.augment.telephone import a_law, mu_law, send_by_telephone
from training.augment.waveform import Rng, Waveform
from training.config import Augmentation, Range
from training.data.library import Pcm

DRIFT_POINTS = 5


@dataclass(frozen=True, slots=True)
class Stage:
    """One effect, applied with a `probability`; None means always, without a draw."""

    name: str
    probability: float | None
    apply: Callable[[Waveform, Rng], Waveform]

    def happens(self, rng: Rng) -> bool:
        return self.probability is None or rng.random() < self.probability


def draw_log_uniform(span: Range, rng: Rng) -> float:
    """Draw from `span` on a logarithmic scale; no draw is made if it is a single value."""
    if span[0] == span[1]:
        return span[0]
    return float(np.exp(rng.uniform(*np.log(span))))


class Channel:
    """Draws a channel for each clip: what `stages` lists, in that order.

    `noises` and `voices` are int16 recordings at the same rate; a stage that is off, or that has
    no recordings to draw from, draws nothing from the generator. The shoebox rooms are computed
    here, once, from `seed`.
    """

    def __init__(
        self,
        settings: Augmentation,
        sample_rate_hz: int,
        noises: Sequence[Pcm],
        voices: Sequence[Pcm],
        *,
        seed: int = 0,
    ) -> None:
        self._settings = settings
        self._rate_hz = sample_rate_hz
        self._noises = noises
        self._voices = voices
        self._packet_samples = round(PACKET_S * sample_rate_hz)
        self._rooms = make_rooms(
            settings.shoebox_rooms if settings.room and settings.shoebox else 0,
            settings.room_rt60_s_range,
            sample_rate_hz,
            np.random.default_rng(seed),
        )
        self.stages = tuple(stage for stage in self._stages() if stage.probability != 0)

    def __call__(self, speech: Waveform, rng: Rng) -> Waveform:
        clean = self._settings.clean
        if clean and rng.random() < clean:
            return self._set_level(speech, rng)
        return self.send(speech, rng)

    def send(self, speech: Waveform, rng: Rng) -> Waveform:
        """Send a clip through a channel, whatever share of clips is left clean."""
        for stage in self.stages:
            if stage.happens(rng):
                speech = stage.apply(speech, rng)
        return speech

    def _stages(self) -> tuple[Stage, ...]:
        chosen = self._settings
        return (
            Stage("room", chosen.room, self._reverberate),
            Stage("noise", chosen.noise if self._noises else 0, self._add_noise),
            Stage("babble", chosen.babble if self._voices else 0, self._add_voices),
            Stage("equaliser", chosen.equaliser, self._color),
            Stage("level", None, self._set_level),
            Stage("drift", chosen.drift, self._drift),
            Stage("telephone", chosen.telephone, self._send_by_telephone),
            Stage("codec", chosen.codec, self._encode),
            Stage("packet_loss", chosen.packet_loss, self._lose_packets),
        )

    def _reverberate(self, speech: Waveform, rng: Rng) -> Waveform:
        chosen = self._settings
        if self._rooms and rng.random() < chosen.shoebox:
            return reverberate(speech, self._rooms[int(rng.integers(len(self._rooms)))])
        rt60_s = rng.uniform(*chosen.room_rt60_s_range)
        direct_db = rng.uniform(*chosen.room_direct_db_range)
        return reverberate(speech, draw_room_response(rt60_s, direct_db, self._rate_hz, rng))

    def _add_noise(self, speech: Waveform, rng: Rng) -> Waveform:
        noise = cut(self._noises, speech.size, rng)
        return add_noise(speech, noise, rng.uniform(*self._settings.noise_snr_db_range))

    def _add_voices(self, speech: Waveform, rng: Rng) -> Waveform:
        voices = mix_babble(self._voices, self._settings.babble_voices, speech.size, rng)
        return add_noise(speech, voices, rng.uniform(*self._settings.babble_snr_db_range))

    def _color(self, speech: Waveform, rng: Rng) -> Waveform:
        centers_hz, gains_db = draw_handset(
            rng, self._settings.equaliser_deviation_db, self._rate_hz
        )
        return equalize(speech, centers_hz, gains_db, self._rate_hz)

    def _set_level(self, speech: Waveform, rng: Rng) -> Waveform:
        return set_level(speech, self._settings.level_dbfs_range, rng)

    def _drift(self, speech: Waveform, rng: Rng) -> Waveform:
        furthest_db = self._settings.drift_db
        return drift(speech, rng.uniform(-furthest_db, furthest_db, DRIFT_POINTS))

    def _send_by_telephone(self, speech: Waveform, rng: Rng) -> Waveform:
        return send_by_telephone(
            speech,
            self._rate_hz,
            low_hz=rng.uniform(80.0, 350.0),
            high_hz=rng.uniform(3000.0, 3800.0),
            companding=mu_law if rng.random() < 0.5 else a_law,
            low_order=draw_log_uniform(self._settings.telephone_low_order_range, rng),
            high_order=draw_log_uniform(self._settings.telephone_high_order_range, rng),
        )

    def _encode(self, speech: Waveform, rng: Rng) -> Waveform:
        names = self._settings.codecs
        return CODECS[names[int(rng.integers(len(names)))]](speech, self._rate_hz, rng)

    def _lose_packets(self, speech: Waveform, rng: Rng) -> Waveform:
        share = rng.uniform(*self._settings.packet_loss_share_range)
        burst = rng.uniform(*self._settings.packet_burst_range)
        lost = draw_lost_packets(speech.size // self._packet_samples, share, burst, rng)
        return conceal(speech, lost, self._packet_samples)
