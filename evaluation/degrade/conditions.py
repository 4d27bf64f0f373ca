"""Conditions of the test side: how much speech, how much noise, which codec."""

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
        """Noise and codec, in words."""
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
    """A condition as a treatment of a clip's audio."""

    condition: Condition
    vad: VoiceActivity
    seed: int = 0

    @property
    def key(self) -> str:
        condition = self.condition
        parts = (condition.speech_s, condition.snr_db, condition.codec, self.seed)
        return f"condition-{VERSION}:" + ":".join(str(part) for part in parts)

    def __call__(self, name: str, samples: Samples, rate: int) -> Samples:
        condition = self.condition
        rng = channels.seed_generator("condition", str(self.seed), name)
        if condition.snr_db is not None:
            samples = channels.add_speech_shaped_noise(
                samples, rate, snr_db=condition.snr_db, rng=rng
            )
        samples = codecs.apply(condition.codec, samples, rate, rng)
        if condition.speech_s is None:
            return samples
        return shorten(self.vad, samples, rate, speech_s=condition.speech_s)


@dataclass(slots=True)
class TreatmentCache:
    """A treatment with its results by clip, so that other systems and lengths do not repeat it."""

    treatment: Treatment | None
    vad: VoiceActivity
    results: dict[str, Samples] = field(default_factory=dict)

    def shorten_to(self, speech_s: float | None) -> Treatment | None:
        """The treatment, and of its result the first `speech_s` of net speech (None: all of it)."""
        if self.treatment is None:
            return None if speech_s is None else Degradation(Condition(speech_s), self.vad)
        return _Shortened(self, self.treatment, speech_s)


@dataclass(frozen=True, slots=True)
class _Shortened:
    cache: TreatmentCache
    treatment: Treatment
    speech_s: float | None

    @property
    def key(self) -> str:
        part = "" if self.speech_s is None else f"|first {self.speech_s:g} s"
        return f"{self.treatment.key}{part}"

    def __call__(self, name: str, samples: Samples, rate: int) -> Samples:
        results = self.cache.results
        key = f"{rate}:{name}"
        if key not in results:
            results[key] = self.treatment(name, samples, rate)
        if self.speech_s is None:
            return results[key]
        return shorten(self.cache.vad, results[key], rate, speech_s=self.speech_s)


def shorten(vad: VoiceActivity, samples: Samples, rate: int, *, speech_s: float) -> Samples:
    """`samples` up to the moment at which they held `speech_s` of net speech; all, if never."""
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
    """Every length in every noise, and through every codec, by default all available ones."""
    for length_s in lengths_s:
        for snr_db in snrs_db:
            yield Condition(length_s, snr_db)
        for name in codecs.list_available() if names is None else names:
            if name != "none":
                yield Condition(length_s, codec=name)
