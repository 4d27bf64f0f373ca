"""How an utterance is added to a voiceprint.

    enrollment ─> beside the enrolled vectors ─> without outliers ─> the longest, enrolled first
    adaptation ─> like the enrolled vectors alone? ─> after them, in what room they leave

An adaptation never displaces what was enrolled, and is compared with that alone: otherwise calls
that are each a little like the voice would lead it away, step by step.
"""

from dataclasses import dataclass

import numpy as np

from service.inference.embedder import Utterance
from service.speakers.voiceprints import (
    Llr,
    add_adapted,
    add_enrolled,
    drop_outliers,
    holds_recording,
    keep_enrolled,
    keep_longest,
)
from service.store import Speaker, Voiceprint

_SAME_COSINE = 0.99999
_SAME_SPEECH_S = 0.001


class Mismatch(Exception):
    """Stops a write: the speech is not of the voice that it would be added to."""


@dataclass(frozen=True, slots=True)
class VoiceprintGrowth:
    """Grows the voiceprints of one model to at most `max_vectors`, each weighted by its net speech;
    the longest stay. Vectors must have at least `match_llr` with the rest, by `llr` if there is
    one."""

    model_id: str
    llr: Llr | None
    match_llr: float
    max_vectors: int

    def extend(self, voiceprint: Voiceprint | None, utterance: Utterance, now: float) -> Voiceprint:
        """Add an enrolled utterance and drop outliers; raises `Mismatch` if it is another voice."""
        assert utterance.embedding is not None, "the caller checks that there is an embedding"
        embedding, speech_s = utterance.embedding, utterance.quality.net_speech_s
        if voiceprint is None:
            lengths = np.array([speech_s], np.float32)
            return Voiceprint(self.model_id, embedding[None, :], lengths, now)
        grown = add_enrolled(voiceprint, embedding, speech_s)
        if self.llr is not None:
            snr_db = utterance.quality.snr_db
            if self.llr(voiceprint, embedding, speech_s, snr_db) < self.match_llr:
                raise Mismatch
            grown = drop_outliers(grown, self.llr, min_llr=self.match_llr)
        return keep_longest(grown, self.max_vectors)

    def adapt(self, voiceprint: Voiceprint, call: Utterance, floor_llr: float) -> Voiceprint:
        """Add a call; raises `Mismatch` if its llr against what was enrolled is below `floor_llr`,
        or what was enrolled leaves no room for it."""
        embedding, speech_s = call.embedding, call.quality.net_speech_s
        assert embedding is not None, "the rules ask for an embedding"
        assert self.llr is not None, "the call was accepted by a calibrated llr"
        enrolled = keep_enrolled(voiceprint)
        if self.llr(enrolled, embedding, speech_s, call.quality.snr_db) < floor_llr:
            raise Mismatch
        grown = drop_outliers(
            add_adapted(voiceprint, embedding, speech_s),
            self.llr,
            min_llr=self.match_llr,
            keep=len(enrolled.speech_s),
        )
        grown = keep_longest(grown, self.max_vectors)
        if not holds_recording([grown], embedding):
            raise Mismatch
        return grown

    def require_new(self, speaker: Speaker, call: Utterance, digest: str) -> None:
        """Raise `Mismatch` for a recording that the voice holds, once held, or was adapted with.

        `digest` is the SHA-256 of the recording, in hexadecimal.
        """
        assert call.embedding is not None, "the rules ask for an embedding"
        versions = (speaker.voiceprints, *(version.voiceprints for version in speaker.history))
        own = [version[self.model_id] for version in versions if self.model_id in version]
        if digest in speaker.adapted_from or holds_recording(own, call.embedding):
            raise Mismatch


def holds_utterance(voiceprint: Voiceprint, utterance: Utterance) -> bool:
    """Whether one of the vectors is of this very recording, up to rounding."""
    assert utterance.embedding is not None, "the caller checks that there is an embedding"
    alike = voiceprint.vectors @ utterance.embedding > _SAME_COSINE  # (n,)
    as_long = np.abs(voiceprint.speech_s - utterance.quality.net_speech_s) < _SAME_SPEECH_S  # (n,)
    return bool((alike & as_long).any())
