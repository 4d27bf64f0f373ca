"""Enrolment: adds the speech of one utterance to a speaker's voice, and says what is missing."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from service.decision import Demands, Reason, explain, shortcomings
from service.embedder import Utterance
from service.errors import FailedPrecondition
from service.quality import Quality
from service.store import Consent, Speaker, SpeakerState, Store, Voiceprint, update


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """Whose voice to enrol. `replacing` forgets what was enrolled before; with an `etag` the
    write is conditional."""

    tenant: str
    speaker_id: str
    replacing: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    consent: Consent | None = None
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Seconds of net speech enrolled, and still needed (0 once enrolled)."""

    speech_s: float
    needed_s: float


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What came of an utterance: `speaker` as stored, or None and the reasons why it was not."""

    progress: Progress
    quality: Quality
    explanation: str
    speaker: Speaker | None = None
    reasons: tuple[Reason, ...] = ()


class Enroller:
    """Keeps one vector per utterance, weighted by its net speech; the longest `max_vectors` stay.

    `demands` are on each utterance, `min_speech_s` of net speech on all of them together.
    """

    def __init__(
        self,
        store: Store,
        *,
        model_id: str,
        demands: Demands,
        min_speech_s: float,
        max_vectors: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._model_id = model_id
        self._demands = demands
        self._min_speech_s = min_speech_s
        self._max_vectors = max_vectors
        self._clock = clock

    async def open(self, request: EnrolmentRequest) -> Progress:
        """What an enrolment starts from; raises `FailedPrecondition` for one who opted out."""
        found = await self._store.get(request.tenant, request.speaker_id)
        _refuse_opted_out(found)
        return self.progress(None if request.replacing else found)

    async def add(self, request: EnrolmentRequest, utterance: Utterance) -> Enrolment:
        """Stores the utterance's embedding if its audio allows; durable on return.

        Raises `Aborted` when `request.etag` is stale. Concurrent enrolments lose nothing.
        """
        if reasons := shortcomings(utterance.quality, self._demands):
            return await self._refused(request, utterance.quality, reasons)
        speaker = await self._stored(request, utterance)
        progress = self.progress(speaker)
        needed = f"{progress.needed_s:.1f} s more of net speech are needed"
        explanation = needed if progress.needed_s else "enrolled"
        return Enrolment(progress, utterance.quality, explanation, speaker)

    def progress(self, speaker: Speaker | None) -> Progress:
        """How far a speaker's enrolment with this model has come."""
        held = speaker.voiceprints.get(self._model_id) if speaker else None
        return self.progress_at(float(held.speech_s.sum()) if held else 0.0)

    def progress_at(self, speech_s: float) -> Progress:
        return Progress(speech_s, max(0.0, self._min_speech_s - speech_s))

    async def _refused(
        self, request: EnrolmentRequest, quality: Quality, reasons: tuple[Reason, ...]
    ) -> Enrolment:
        progress = await self.open(request)
        explanation = f"nothing was enrolled: {explain(reasons, progress.needed_s)}"
        return Enrolment(progress, quality, explanation, reasons=reasons)

    async def _stored(self, request: EnrolmentRequest, utterance: Utterance) -> Speaker:
        def change(found: Speaker | None) -> Speaker:
            return self._changed(found, request, utterance)

        if not request.etag:
            return await update(self._store, request.tenant, request.speaker_id, change)
        found = await self._store.get(request.tenant, request.speaker_id)
        return await self._store.put(change(found), expected_etag=request.etag)

    def _changed(
        self, found: Speaker | None, request: EnrolmentRequest, utterance: Utterance
    ) -> Speaker:
        _refuse_opted_out(found)
        now = self._clock()
        speaker = found or Speaker(
            tenant=request.tenant,
            speaker_id=request.speaker_id,
            state=SpeakerState.PENDING,
            created_at=now,
            updated_at=now,
        )
        held = None if request.replacing else speaker.voiceprints.get(self._model_id)
        voiceprint = self._extended(held, utterance, now)
        others = {} if request.replacing else speaker.voiceprints
        enrolled = float(voiceprint.speech_s.sum()) >= self._min_speech_s
        return replace(
            speaker,
            state=SpeakerState.ENROLLED if enrolled else SpeakerState.PENDING,
            voiceprints={**others, self._model_id: voiceprint},
            metadata={**speaker.metadata, **request.metadata},
            consent=request.consent or speaker.consent,
            updated_at=now,
        )

    def _extended(self, held: Voiceprint | None, utterance: Utterance, now: float) -> Voiceprint:
        assert utterance.embedding is not None, "the caller checks that there is an embedding"
        vectors = utterance.embedding[None, :]  # (1, dim)
        speech_s = np.array([utterance.quality.net_speech_s], np.float32)  # (1,)
        if held is not None:
            vectors = np.concatenate([held.vectors, vectors])  # (n + 1, dim)
            speech_s = np.concatenate([held.speech_s, speech_s])  # (n + 1,)
        longest = np.sort(np.argsort(speech_s)[-self._max_vectors :])
        created_at = held.created_at if held else now
        return Voiceprint(self._model_id, vectors[longest], speech_s[longest], created_at)


def _refuse_opted_out(speaker: Speaker | None) -> None:
    if speaker is not None and speaker.state is SpeakerState.OPTED_OUT:
        raise FailedPrecondition("the speaker opted out of voice verification; opt in again first")
