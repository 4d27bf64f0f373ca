"""Succession: which voiceprint of a speaker counts while one model takes over from another."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.store import Voiceprint


@dataclass(frozen=True, slots=True)
class Succession:
    """The models whose voiceprints are accepted, the newest first.

    A speaker is compared in the space of one of them only: the newest with `least_speech_s` of net
    speech or, where none has as much, the oldest.
    """

    model_ids: tuple[str, ...]
    least_speech_s: float = 0.0

    def in_use(self, voiceprints: Mapping[str, Voiceprint]) -> Voiceprint | None:
        """The voiceprint to compare with, of those by model id; None where none is accepted."""
        held = [voiceprints[name] for name in self.model_ids if name in voiceprints]
        complete = (each for each in held if each.speech_s.sum() >= self.least_speech_s)
        return next(complete, held[-1] if held else None)
