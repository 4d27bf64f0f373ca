"""Degradation versions of the heard side: how long, how noisy, through which codec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evaluation.degrade import channels, codecs
from evaluation.degrade.treatment import Treatment
from service.audio.speech import SpeechDetector, VoiceActivity

Samples = NDArray[np.float32]

VERSION = 2
SPEECH_S = (1.0, 2.0, 3.0, 5.0, None)
SNR_DB = (None, 20.0, 10.0, 5.0)
STEP_S = 0.1


@dataclass(frozen=True, slots=True)
class Condition:
    """The first `speech_s` of net speech, at `snr_db`, after `codec`; None changes nothing."""

    speech_s: float | None = None
    snr_db: float | None = None
    codec: str = "none"

    @property
    def channel(self) -> str:
        """What is done beside shortening, in words."""
        parts = [] if self.snr_db is None else [f"{self.snr_db:g} dB"]
        parts += [] if self.codec == "none" else [CODEC_NAMES[self.codec]]
        return ", ".join(parts) or "as recorded"

    @property
    def length(self) -> str:
        return "full" if self.speech_s is None else f"{self.speech_s:g} s"


CODEC_NAMES = {
    "none": "as recorded",
    "mulaw": "G.711 mu-law",
    "gsm": "GSM full rate",
    "amr": "AMR-NB 12.2",
    "mp3": "MP3 16 kb/s",
    "opus": "Opus 12 kb/s, 5% loss",
}


@dataclass(frozen=True, slots=True)
class Degradation:
    """A condition as something done to a clip's audio."""

    condition: Condition
    vad: VoiceActivity
    seed: int = 0

    @property
    def key(self) -> str:
        asked = self.condition
        parts = (asked.speech_s, asked.snr_db, asked.codec, self.seed)
        return f"condition-{VERSION}:" + ":".join(str(part) for part in parts)

    def __call__(self, name: str, samples: Samples, rate: int) -> Samples:
        asked = self.condition
        rng = channels.seed_generator("condition", str(self.seed), name)
        if asked.snr_db is not None:
            samples = channels.add_speech_shaped_noise(samples, rate, snr_db=asked.snr_db, rng=rng)
        samples = codecs.apply(asked.codec, samples, rate, rng)
        if asked.speech_s is None:
            return samples
        return shorten(self.vad, samples, rate, speech_s=asked.speech_s)


@dataclass(slots=True)
class TreatmentCache:
    """What a treatment made of each clip, kept for the next system and the next length."""

    treatment: Treatment | None
    vad: VoiceActivity
    made: dict[str, Samples] = field(default_factory=dict)

    def first(self, speech_s: float | None) -> Treatment | None:
        """The treatment, and of what it leaves the first `speech_s` of net speech."""
        if self.treatment is None:
            return None if speech_s is None else Degradation(Condition(speech_s), self.vad)
        return _First(self, self.treatment, speech_s)


@dataclass(frozen=True, slots=True)
class _First:
    kept: TreatmentCache
    treatment: Treatment
    speech_s: float | None

    @property
    def key(self) -> str:
        part = "" if self.speech_s is None else f"|first {self.speech_s:g} s"
        return f"{self.treatment.key}{part}"

    def __call__(self, name: str, samples: Samples, rate: int) -> Samples:
        made = self.kept.made
        key = f"{rate}:{name}"
        if key not in made:
            made[key] = self.treatment(name, samples, rate)
        if self.speech_s is None:
            return made[key]
        return shorten(self.kept.vad, made[key], rate, speech_s=self.speech_s)


def shorten(vad: VoiceActivity, samples: Samples, rate: int, *, speech_s: float) -> Samples:
    """`samples` up to the moment when `speech_s` of net speech was heard; all, when never."""
    detector = SpeechDetector(vad)
    step = int(STEP_S * rate)
    for end in range(step, len(samples) + step, step):
        detector.push(samples[end - step : end])
        if detector.quality.net_speech_s >= speech_s:
            return samples[:end]
    return samples


def list_conditions(
    lengths_s: Sequence[float | None] = SPEECH_S,
    snrs_db: Sequence[float | None] = SNR_DB,
    names: Sequence[str] | None = None,
) -> Iterator[Condition]:
    """Every length as recorded, in every noise, and through every codec that is available."""
    for length_s in lengths_s:
        for snr_db in snrs_db:
            yield Condition(length_s, snr_db)
        for name in codecs.list_available() if names is None else names:
            if name != "none":
                yield Condition(length_s, codec=name)
