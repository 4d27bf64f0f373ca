"""What makes a spoofed clip, by the name that the manifest gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from training.augment.waveform import Rng, Waveform
from training.spoofs import neural, replay, synthesis, vocoders

Kind = Literal["synthesis", "conversion", "vocoder", "replay"]


@dataclass(frozen=True, slots=True)
class Source:
    """A bona fide clip, one of another speaker of the same split, and what a synthesizer says."""

    speech: Waveform
    other: Waveform
    text: str
    rate_hz: int


@dataclass(frozen=True, slots=True)
class Generator:
    """One attack; if `held_out`, none of its clips is in the training split."""

    kind: Kind
    make: Callable[[Source, Rng], Waveform]
    held_out: bool = False

    @property
    def speaks(self) -> bool:
        """Whether it makes speech from a text, which no microphone has recorded."""
        return self.kind == "synthesis"


GENERATORS: dict[str, Generator] = {
    "espeak": Generator(
        "synthesis", lambda of, rng: synthesis.speak_espeak(of.text, of.rate_hz, rng)
    ),
    "flite-diphone": Generator(
        "synthesis",
        lambda of, rng: synthesis.speak_flite(
            of.text, of.rate_hz, rng, synthesis.FLITE_DIPHONE_VOICES
        ),
        held_out=True,
    ),
    "flite-statistical": Generator(
        "synthesis",
        lambda of, rng: synthesis.speak_flite(
            of.text, of.rate_hz, rng, synthesis.FLITE_STATISTICAL_VOICES
        ),
    ),
    "festival-diphone": Generator(
        "synthesis",
        lambda of, rng: synthesis.speak_festival(
            of.text, of.rate_hz, rng, synthesis.FESTIVAL_DIPHONE_VOICES
        ),
    ),
    "festival-hts": Generator(
        "synthesis",
        lambda of, rng: synthesis.speak_festival(
            of.text, of.rate_hz, rng, synthesis.FESTIVAL_HTS_VOICES
        ),
        held_out=True,
    ),
    "kokoro": Generator("synthesis", lambda of, rng: neural.speak_kokoro(of.text, of.rate_hz, rng)),
    "piper": Generator(
        "synthesis", lambda of, rng: neural.speak_piper(of.text, of.rate_hz, rng), held_out=True
    ),
    "world-copy": Generator("vocoder", lambda of, _: vocoders.copy_by_world(of.speech, of.rate_hz)),
    "world-conversion": Generator(
        "conversion", lambda of, _: vocoders.convert_by_world(of.speech, of.other, of.rate_hz)
    ),
    "griffin-lim": Generator(
        "vocoder", lambda of, rng: vocoders.rebuild_phase(of.speech, of.rate_hz, rng)
    ),
    "linear-prediction": Generator(
        "vocoder",
        lambda of, rng: vocoders.predict_linearly(of.speech, of.rate_hz, rng),
        held_out=True,
    ),
    "codec2": Generator(
        "vocoder", lambda of, rng: vocoders.code_by_codec2(of.speech, of.rate_hz, rng)
    ),
    "replay-near": Generator(
        "replay",
        lambda of, rng: replay.play_again(of.speech, of.rate_hz, rng, replay.NEAR),
    ),
    "replay-far": Generator(
        "replay",
        lambda of, rng: replay.play_again(of.speech, of.rate_hz, rng, replay.FAR),
        held_out=True,
    ),
}
