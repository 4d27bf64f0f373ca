"""Enrollment: adds the speech of one utterance to a speaker's voice, or says why not.

utterance ─> good audio? ─> one voice? ─> nobody else's? ─> the voice so far? ─> stored
                 │              │               │                  │
              Reason     MULTIPLE_VOICES  ALREADY_ENROLLED   VOICE_MISMATCH

enroller     takes an utterance through these steps
checks       consent, good audio, one voice, the voice so far
duplicates   other speakers who have the voice
growth       the voiceprint with the utterance in it
progress     which voiceprint counts, and how much speech it still needs
request      what is asked for, and what came of it
"""

from service.speakers.enrollment.enroller import Enroller
from service.speakers.enrollment.growth import Mismatch
from service.speakers.enrollment.progress import Progress, SpeakerVoices
from service.speakers.enrollment.request import Enrollment, EnrollmentRequest

__all__ = [
    "Enroller",
    "Enrollment",
    "EnrollmentRequest",
    "Mismatch",
    "Progress",
    "SpeakerVoices",
]
