"""Impairments: what a recorder, a line or a codec does to every clip alike.

These are the conditions in which a promised false-match rate is checked. An impairment is applied
to the test side alone, or to both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.degrade import channels, codecs
from evaluation.errors import EvaluationError

Samples = NDArray[np.float32]
Rng = np.random.Generator
Impairment = Callable[[Samples, int, Rng], Samples]

VERSION = 1
CLEAN = "clean"
OFFSET, HUM, RUMBLE = 0.1, 0.07, 0.14  # of full scale
KEYPAD_HZ = ((697, 770, 852, 941), (1209, 1336, 1477))
KEY_S, PAUSE_S, KEYS = 0.2, 0.1, 20
RINGBACK_HZ, RINGBACK_S, RINGBACK = (440, 480), 20.0, 0.07
SILENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Impaired:
    """The impairment `name` as a treatment of a clip's audio."""

    name: str
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in IMPAIRMENTS:
            raise EvaluationError(f"no condition {self.name!r}; there is {', '.join(IMPAIRMENTS)}")

    @property
    def key(self) -> str:
        return f"impaired-{VERSION}:{self.name}:{self.seed}"

    def __call__(self, name: str, samples: Samples, rate: int) -> Samples:
        rng = channels.seed_generator("impaired", str(self.seed), name)
        return IMPAIRMENTS[self.name](samples, rate, rng)


def offset(samples: Samples, _rate: int, _rng: Rng) -> Samples:
    """Add a constant, as cheap sound cards do."""
    return _clip(samples + OFFSET)


def hum(samples: Samples, rate: int, _rng: Rng) -> Samples:
    """Add the 50 Hz of the mains."""
    return _clip(samples + HUM * _tone(len(samples), rate, 50))


def rumble(samples: Samples, rate: int, _rng: Rng) -> Samples:
    """Add 30 Hz, as of a ventilator or a moving car."""
    return _clip(samples + RUMBLE * _tone(len(samples), rate, 30))


def keypad_first(samples: Samples, rate: int, _rng: Rng) -> Samples:
    """Put twenty keys of a telephone's keypad before the speech."""
    rows, columns = KEYPAD_HZ
    pause = np.zeros(int(PAUSE_S * rate), np.float32)
    pieces = []
    for key in range(KEYS):
        pressed = (rows[key % 4], columns[key % 3])
        pieces += [0.25 * _tone(int(KEY_S * rate), rate, *pressed), pause]
    return _clip(np.concatenate([*pieces, samples]))


def ringback_first(samples: Samples, rate: int, _rng: Rng) -> Samples:
    """Put a steady tone before the speech, as while waiting for an answer."""
    waiting = RINGBACK * _tone(int(RINGBACK_S * rate), rate, *RINGBACK_HZ)
    return _clip(np.concatenate([waiting, samples]))


def silence_first(samples: Samples, rate: int, _rng: Rng) -> Samples:
    """Put digital silence before the speech."""
    return np.concatenate([np.zeros(int(SILENCE_S * rate), np.float32), samples])


def _tone(count: int, rate: int, *hertz: float) -> Samples:
    time_s = np.arange(count) / rate
    tone: Samples = np.sum([np.sin(2 * np.pi * frequency * time_s) for frequency in hertz], axis=0)
    return tone.astype(np.float32)


def _clip(samples: Samples) -> Samples:
    return np.clip(samples, -1, 1).astype(np.float32)


def _line(band: Callable[[Samples, int], Samples]) -> Impairment:
    return lambda samples, rate, _rng: band(samples, rate)


def _codec(name: str) -> Impairment:
    return lambda samples, rate, rng: codecs.apply(name, samples, rate, rng)


IMPAIRMENTS: Mapping[str, Impairment] = {
    CLEAN: lambda samples, _rate, _rng: samples,
    "DC offset": offset,
    "50 Hz hum": hum,
    "30 Hz rumble": rumble,
    "keypad tones first": keypad_first,
    "ringback tone first": ringback_first,
    "silence first": silence_first,
    "steep line": _line(channels.steep_line),
    "gentle line": _line(channels.gentle_line),
    "G.711 mu-law": _codec("mulaw"),
    "MP3 16 kb/s": _codec("mp3"),
    "GSM": _codec("gsm"),
    "Opus 12 kb/s, 5% loss": _codec("opus"),
}
