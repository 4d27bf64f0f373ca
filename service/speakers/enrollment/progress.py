"""Which of a speaker's voiceprints count for enrollment, and how much speech they still need."""

from dataclasses import dataclass, replace

from service.speakers.lifecycle import Retention
from service.speakers.voiceprints import ModelSuccession
from service.store import Speaker, SpeakerState, Voiceprint


@dataclass(frozen=True, slots=True)
class Progress:
    """Seconds of net speech enrolled, and still needed (0 once enrolled)."""

    speech_s: float
    needed_s: float


@dataclass(frozen=True, slots=True)
class SpeakerVoices:
    """Picks and measures voiceprints. New speech goes to that of the newest model; the one that
    counts may be the previous model's. An expired voice counts as none."""

    succession: ModelSuccession
    retention: Retention

    def get_newest(self, speaker: Speaker) -> Voiceprint | None:
        """The voiceprint of the newest model."""
        if self._has_expired(speaker):
            return None
        return speaker.voiceprints.get(self.succession.model_ids[0])

    def get_counting(self, speaker: Speaker) -> Voiceprint | None:
        """The voiceprint that the speaker is compared with."""
        return None if self._has_expired(speaker) else self.succession.select(speaker.voiceprints)

    def get_comparable(self, speaker: Speaker) -> Voiceprint | None:
        """The voiceprint that other speakers may be compared with."""
        return None if self.retention.lacks_consent(speaker) else self.get_counting(speaker)

    def set_voiceprint(self, speaker: Speaker, voiceprint: Voiceprint) -> Speaker:
        """The speaker with the voiceprint, in the state that follows from it."""
        complete = (
            SpeakerState.UNCONFIRMED if speaker.awaits_confirmation else SpeakerState.ENROLLED
        )
        voiceprints = {**speaker.voiceprints, voiceprint.model_id: voiceprint}
        counting = self.succession.select(voiceprints)
        enough = counting is not None and not self._measure(counting).needed_s
        return replace(
            speaker,
            state=complete if enough else SpeakerState.PENDING,
            voiceprints=voiceprints,
        )

    def measure(self, speaker: Speaker | None) -> Progress:
        """Progress with the newest model."""
        return self._measure(self.get_newest(speaker) if speaker else None)

    def measure_counting(self, speaker: Speaker) -> Progress:
        """Progress with the model that counts."""
        return self._measure(self.get_counting(speaker))

    def measure_speech(self, speech_s: float) -> Progress:
        return Progress(speech_s, max(0.0, self.succession.min_speech_s - speech_s))

    def _measure(self, voiceprint: Voiceprint | None) -> Progress:
        return self.measure_speech(0.0 if voiceprint is None else voiceprint.total_speech_s)

    def _has_expired(self, speaker: Speaker) -> bool:
        return self.retention.state(speaker) is SpeakerState.EXPIRED
