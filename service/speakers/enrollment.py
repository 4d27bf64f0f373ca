"""Enrollment: adds the speech of one utterance to a speaker's voice, and says what is missing.

    utterance ─> good enough? ─> one voice? ─> nobody else's? ─> the voice so far? ─> stored
                     │               │               │                  │
                  Reason      MULTIPLE_VOICES  ALREADY_ENROLLED   VOICE_MISMATCH

A check that needs a calibrated ratio passes where the model has no calibration.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from service.audio.quality import Quality
from service.contract import Contract
from service.decisions.decision import Reason, explain, list_shortcomings
from service.decisions.policy import QualityGate
from service.decisions.scoring import Scorer, voice
from service.errors import FailedPrecondition
from service.inference.embedder import Utterance
from service.settings import Duplicates, EnrollmentRules
from service.speakers.duplicates import DuplicateSearch
from service.speakers.voiceprints import (
    Llr,
    ModelSuccession,
    enrolled_part,
    longest,
    same_recording,
    with_adapted,
    with_enrolled,
    without_outliers,
)
from service.store import Consent, Speaker, SpeakerState, Store, Voiceprint
from service.store.lifecycle import FOR_EVER, Retention, change, consented, enrolled, expired

_SAME_COSINE = 0.99999
_SAME_SPEECH_S = 0.001
_DIGESTS_KEPT = 200


_DEFAULT_RULES = EnrollmentRules()


@dataclass(frozen=True, slots=True)
class EnrollmentRequest:
    """Whose voice to enroll. `replacing` forgets what was enrolled before; with an `etag` the
    write is conditional. `confirm` asks for an operator's confirmation before first use. A voice
    that holds this very recording already is not added to, so that a lost answer may be asked for
    again. `credential` is whose request it is."""

    tenant: str
    speaker_id: str
    replacing: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    consent: Consent | None = None
    etag: str = ""
    confirm: bool = False
    duplicates: Duplicates | None = None
    credential: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Seconds of net speech enrolled, and still needed (0 once enrolled)."""

    speech_s: float
    needed_s: float


@dataclass(frozen=True, slots=True)
class Enrollment:
    """What came of an utterance: `speaker` as stored, or None and the reasons why it was not.

    `duplicates` are the ids under which the voice is already enrolled, `expires_at` is when the
    speaker's expires unless it is used.
    """

    progress: Progress
    quality: Quality
    explanation: str
    speaker: Speaker | None = None
    reasons: tuple[Reason, ...] = ()
    duplicates: tuple[str, ...] = ()
    expires_at: float = math.inf


class Mismatch(Exception):
    """Keeps a write from happening: the speech is not of the voice that it would be added to."""


class _AlreadyEnrolled(Exception):
    """Keeps a write from happening: the voice of `speaker` holds the recording."""

    def __init__(self, speaker: Speaker) -> None:
        super().__init__()
        self.speaker = speaker


class Enroller:
    """Keeps one vector per utterance, weighted by its net speech; the longest `max_vectors` stay.

    `gate` is for each utterance, `min_speech_s` of net speech for all of them together. With the
    contract of a `previous` model, utterances are embedded with both; new voices are made in that
    of `contract`, and one who has a voice of the previous model only enrols with that voice.
    """

    def __init__(
        self,
        store: Store,
        *,
        contract: Contract,
        gate: QualityGate,
        min_speech_s: float,
        max_vectors: int,
        rules: EnrollmentRules = _DEFAULT_RULES,
        retention: Retention = FOR_EVER,
        previous: Contract | None = None,
    ) -> None:
        accepted = (contract, *filter(None, [previous]))
        self.succession = ModelSuccession(
            tuple(contract.model_id for contract in accepted), min_speech_s
        )
        scorers = {contract.model_id: Scorer(contract) for contract in accepted}
        self._scorer = scorers[contract.model_id]
        self._llrs = {
            contract.model_id: _llr_with(scorers[contract.model_id])
            for contract in accepted
            if contract.calibration
        }
        self._store = store
        self._contract = contract
        self.model_id = contract.model_id
        self._llr = self._llrs.get(contract.model_id)
        self._gate = gate
        self._min_speech_s = min_speech_s
        self._max_vectors = max_vectors
        self._rules = rules
        self._retention = retention
        self._search = DuplicateSearch(
            store,
            {contract.model_id: contract for contract in accepted},
            select=self._comparable,
            llr=self._compare,
            alarm_rate=rules.duplicate_alarm_rate,
            limit=rules.duplicate_limit,
        )

    async def open(self, request: EnrollmentRequest) -> Progress:
        """What an enrollment starts from; raises `FailedPrecondition` for one who opted out, or
        without a consent where that is required."""
        current = await self._store.get(request.tenant, request.speaker_id)
        self._refuse_unwilling(current, request)
        return self.progress(None if request.replacing else current)

    async def add(self, request: EnrollmentRequest, utterance: Utterance) -> Enrollment:
        """Stores the utterance's embedding if its audio allows; durable on return.

        Raises `Aborted` when `request.etag` is stale. Concurrent enrollments lose nothing.
        """
        if reasons := list_shortcomings(utterance.quality, self._gate):
            progress = await self.open(request)
            why = explain(reasons, progress.needed_s, utterance.quality, self._gate)
            return _refusal(progress, utterance, reasons, why)
        if not self._coherent(utterance):
            return await self._refuse_doubtful(request, utterance, Reason.MULTIPLE_VOICES)
        duplicates = await self._find_duplicates(request, utterance)
        if duplicates and self._duplicate_policy(request) is Duplicates.REFUSE:
            refusal = await self._refuse_doubtful(request, utterance, Reason.ALREADY_ENROLLED)
            return replace(refusal, duplicates=duplicates)
        try:
            speaker = await self._apply(request, utterance)
        except Mismatch:
            return await self._refuse_doubtful(request, utterance, Reason.VOICE_MISMATCH)
        except _AlreadyEnrolled as repeated:
            speaker = repeated.speaker
        return self._report(speaker, utterance, duplicates)

    def good(self, utterance: Utterance) -> bool:
        """Whether the audio would be enrolled, whoever it is of."""
        return (
            utterance.embedding is not None
            and not list_shortcomings(utterance.quality, self._gate)
            and self._coherent(utterance)
        )

    def extend(self, speaker: Speaker, utterance: Utterance, now: float) -> Speaker:
        """The speaker with the utterance in the voice of this model; raises `Mismatch` if it is
        not that voice, and if that voice holds this very recording already."""
        voiceprint = self._voiceprint(speaker)
        if voiceprint and _contains(voiceprint, utterance):
            raise Mismatch
        return self._replace_voiceprint(speaker, self._extend(voiceprint, utterance, now))

    def adapt(self, speaker: Speaker, call: Utterance, floor_llr: float, digest: str) -> Speaker:
        """The speaker with a call in the voice of this model, and its recording's `digest` noted.

        Raises `Mismatch` if there is no such voice, if the call is not at least `floor_llr` like
        what was enrolled, or if its recording is part of the voice already, or ever was.
        """
        voiceprint = self._voiceprint(speaker)
        if voiceprint is None:
            raise Mismatch
        self._require_new(speaker, call, digest)
        adapted = self._replace_voiceprint(speaker, self._adapt(voiceprint, call, floor_llr))
        if adapted.state is not SpeakerState.ENROLLED:
            raise Mismatch
        digests = (*speaker.adapted_from, digest)[-_DIGESTS_KEPT:]
        return replace(adapted, adapted_from=digests)

    def progress(self, speaker: Speaker | None) -> Progress:
        """How far a speaker's enrollment with this model has come."""
        voiceprint = self._voiceprint(speaker) if speaker else None
        return self.progress_at(_speech_s(voiceprint) if voiceprint else 0.0)

    def overall_progress(self, speaker: Speaker) -> Progress:
        """How far a speaker's enrollment has come with the model that counts."""
        voiceprint = self._counted_voiceprint(speaker)
        return self.progress_at(_speech_s(voiceprint) if voiceprint else 0.0)

    def progress_at(self, speech_s: float) -> Progress:
        return Progress(speech_s, max(0.0, self._min_speech_s - speech_s))

    def enough(self, before: Progress, quality: Quality) -> bool:
        """Whether audio that is good enough completes an enrollment that had come so far."""
        speech_s = before.speech_s + quality.net_speech_s
        return not (self.progress_at(speech_s).needed_s or list_shortcomings(quality, self._gate))

    def _report(
        self, speaker: Speaker, utterance: Utterance, duplicates: tuple[str, ...]
    ) -> Enrollment:
        progress = self.progress(speaker)
        clauses = ["enrolled"]
        if speaker.state is SpeakerState.UNCONFIRMED:
            clauses = ["enrolled, and waiting for an operator's confirmation"]
        if progress.needed_s:
            clauses = [f"{progress.needed_s:.1f} s more of net speech are needed"]
        if duplicates:
            clauses.append(explain((Reason.ALREADY_ENROLLED,), 0.0))
        return Enrollment(
            progress,
            utterance.quality,
            "; ".join(clauses),
            speaker,
            reasons=(Reason.ALREADY_ENROLLED,) if duplicates else (),
            duplicates=duplicates,
            expires_at=self._retention.expires_at(speaker),
        )

    async def _refuse_doubtful(
        self, request: EnrollmentRequest, utterance: Utterance, doubt: Reason
    ) -> Enrollment:
        return _refusal(await self.open(request), utterance, (doubt,), explain((doubt,), 0.0))

    async def _apply(self, request: EnrollmentRequest, utterance: Utterance) -> Speaker:
        now = self._retention.clock()
        return await change(
            self._store,
            request.tenant,
            request.speaker_id,
            lambda current: self._change(current, request, utterance, now),
            etag=request.etag,
            new=Speaker(request.tenant, request.speaker_id, SpeakerState.PENDING, now, now),
        )

    def _change(
        self, current: Speaker, request: EnrollmentRequest, utterance: Utterance, now: float
    ) -> Speaker:
        self._refuse_unwilling(current, request)
        lapsed = self._retention.state(current) is SpeakerState.EXPIRED
        speaker = expired(current, now=now) if lapsed else current
        voiceprint = self._voiceprint(speaker)
        if (
            voiceprint
            and _contains(voiceprint, utterance)
            and (not request.replacing or len(voiceprint.speech_s) == 1)
        ):
            return self._repeat(current, request, now)
        base = replace(speaker, voiceprints={}) if request.replacing else speaker
        self._require_same_voice(base, utterance)
        trusted = speaker.state is SpeakerState.ENROLLED and not request.replacing
        after = self._replace_voiceprint(
            replace(
                base,
                metadata={**speaker.metadata, **request.metadata},
                consent=request.consent or speaker.consent,
                consent_withdrawn_at=None if request.consent else speaker.consent_withdrawn_at,
                awaits_confirmation=(
                    speaker.awaits_confirmation
                    or request.confirm
                    or (self._rules.confirm and not trusted)
                ),
                # also of voices that are replaced: an undo brings them back
                enrolled_by=tuple(dict.fromkeys((*current.enrolled_by, request.credential))),
            ),
            self._extend(self._voiceprint(base), utterance, now),
        )
        return enrolled(current, after, now=now)

    def _repeat(self, current: Speaker, request: EnrollmentRequest, now: float) -> Speaker:
        """After an enrollment of what the voice holds already: only what else it says is new.

        Raises `_AlreadyEnrolled` where that is nothing.
        """
        metadata = {**current.metadata, **request.metadata}
        if metadata == current.metadata and request.consent in (None, current.consent):
            raise _AlreadyEnrolled(current)
        if request.consent is not None:
            current = consented(current, request.consent, now=now)
        return replace(current, metadata=metadata, updated_at=now)

    def _replace_voiceprint(self, speaker: Speaker, voiceprint: Voiceprint) -> Speaker:
        """The speaker with the voiceprint, in the state that follows from it."""
        complete = (
            SpeakerState.UNCONFIRMED if speaker.awaits_confirmation else SpeakerState.ENROLLED
        )
        voiceprints = {**speaker.voiceprints, self.model_id: voiceprint}
        counting = self.succession.select(voiceprints)
        enough = counting is not None and _speech_s(counting) >= self._min_speech_s
        return replace(
            speaker,
            state=complete if enough else SpeakerState.PENDING,
            voiceprints=voiceprints,
        )

    def _require_same_voice(self, speaker: Speaker, utterance: Utterance) -> None:
        """Raises `Mismatch` if the voice that counts is of the previous model, and another one."""
        voiceprint = self.succession.select(speaker.voiceprints)
        if voiceprint is None or voiceprint.model_id not in {*self._llrs} - {self.model_id}:
            return
        if self._compare(voiceprint, utterance) < self._rules.match_llr:
            raise Mismatch

    def _compare(self, voiceprint: Voiceprint, utterance: Utterance) -> float:
        """The llr of the utterance against a voiceprint of any calibrated model."""
        model_id, quality = voiceprint.model_id, utterance.quality
        own = model_id == self.model_id
        embedding = (utterance if own else utterance.for_model(model_id)).embedding
        assert embedding is not None, "the demands are what every model needs"
        return self._llrs[model_id](voiceprint, embedding, quality.net_speech_s, quality.snr_db)

    def _counted_voiceprint(self, speaker: Speaker) -> Voiceprint | None:
        """The voiceprint that counts, unless it has expired."""
        if self._retention.state(speaker) is SpeakerState.EXPIRED:
            return None
        return self.succession.select(speaker.voiceprints)

    def _comparable(self, speaker: Speaker) -> Voiceprint | None:
        """The voiceprint that others' may be compared with."""
        return None if self._retention.lacks_consent(speaker) else self._counted_voiceprint(speaker)

    def _voiceprint(self, speaker: Speaker) -> Voiceprint | None:
        """The voiceprint of this model, unless it has expired."""
        if self._retention.state(speaker) is SpeakerState.EXPIRED:
            return None
        return speaker.voiceprints.get(self.model_id)

    def _extend(
        self, voiceprint: Voiceprint | None, utterance: Utterance, now: float
    ) -> Voiceprint:
        """The voiceprint with the utterance, without outliers; raises `Mismatch` if it is not the
        voice."""
        assert utterance.embedding is not None, "the caller checks that there is an embedding"
        embedding, speech_s = utterance.embedding, utterance.quality.net_speech_s
        if voiceprint is None:
            lengths = np.array([speech_s], np.float32)
            return Voiceprint(self.model_id, embedding[None, :], lengths, now)
        joined = with_enrolled(voiceprint, embedding, speech_s)
        if self._llr is not None:
            snr_db = utterance.quality.snr_db
            if self._llr(voiceprint, embedding, speech_s, snr_db) < self._rules.match_llr:
                raise Mismatch
            joined = without_outliers(joined, self._llr, min_llr=self._rules.match_llr)
        return longest(joined, self._max_vectors)

    def _adapt(self, voiceprint: Voiceprint, call: Utterance, floor_llr: float) -> Voiceprint:
        """The voiceprint with a call; raises `Mismatch` if the call is not the voice that was
        enrolled, or there is no room beside what was."""
        embedding, speech_s = call.embedding, call.quality.net_speech_s
        assert embedding is not None, "the rules ask for an embedding"
        assert self._llr is not None, "the call was accepted by a calibrated llr"
        enrolled_only = enrolled_part(voiceprint)
        keep = len(enrolled_only.speech_s)
        snr_db = call.quality.snr_db
        if self._llr(enrolled_only, embedding, speech_s, snr_db) < floor_llr:
            raise Mismatch
        joined = with_adapted(voiceprint, embedding, speech_s)
        min_llr = self._rules.match_llr
        joined = without_outliers(joined, self._llr, min_llr=min_llr, keep=keep)
        grown = longest(joined, self._max_vectors)
        if not same_recording([grown], embedding):
            raise Mismatch
        return grown

    def _require_new(self, speaker: Speaker, utterance: Utterance, digest: str) -> None:
        """Raises `Mismatch` for a recording that the voice holds, held, or was adapted with."""
        assert utterance.embedding is not None, "the rules ask for an embedding"
        versions = (speaker.voiceprints, *(version.voiceprints for version in speaker.history))
        own = [version[self.model_id] for version in versions if self.model_id in version]
        if digest in speaker.adapted_from or same_recording(own, utterance.embedding):
            raise Mismatch

    def _coherent(self, utterance: Utterance) -> bool:
        """Whether all of it sounds like one person."""
        if self._contract.calibration is None or utterance.embedding is None:
            return True
        embedding, scorer = utterance.embedding, self._scorer
        if utterance.parts is not None:
            speech_s = utterance.quality.net_speech_s
            if scorer.parts_llr(embedding, utterance.parts, speech_s) < self._rules.parts_llr:
                return False
        if utterance.coherence is None:
            return True
        return scorer.coherence_llr(embedding, utterance.coherence) >= self._rules.coherence_llr

    def _duplicate_policy(self, request: EnrollmentRequest) -> Duplicates:
        return request.duplicates or self._rules.duplicates

    async def _find_duplicates(
        self, request: EnrollmentRequest, utterance: Utterance
    ) -> tuple[str, ...]:
        if self._duplicate_policy(request) is Duplicates.ALLOW:
            return ()
        return await self._search.find(request.tenant, request.speaker_id, utterance)

    def _refuse_unwilling(self, speaker: Speaker | None, request: EnrollmentRequest) -> None:
        if speaker is not None and speaker.state is SpeakerState.OPTED_OUT:
            raise FailedPrecondition(
                "the speaker opted out of voice verification; opt in again first"
            )
        lacking = speaker is not None and self._retention.lacks_consent(speaker)
        required = self._rules.consent_required and (speaker is None or speaker.consent is None)
        if request.consent is None and (lacking or required):
            raise FailedPrecondition(
                "enrollment needs the speaker's consent, and there is none, or it was withdrawn; "
                "send `consent` with the enrollment, or "
                "record it with UpdateSpeaker first"
            )


def _llr_with(scorer: Scorer) -> Llr:
    def llr(
        voiceprint: Voiceprint,
        embedding: NDArray[np.float32],
        speech_s: float,
        snr_db: float | None,
    ) -> float:
        return scorer.compare(
            voice(voiceprint.vectors, voiceprint.speech_s),
            embedding,
            enroll_speech_s=_speech_s(voiceprint),
            test_speech_s=speech_s,
            snr_db=snr_db,
        )

    return llr


def _refusal(
    progress: Progress, utterance: Utterance, reasons: tuple[Reason, ...], why: str
) -> Enrollment:
    return Enrollment(progress, utterance.quality, f"nothing was enrolled: {why}", reasons=reasons)


def _contains(voiceprint: Voiceprint, utterance: Utterance) -> bool:
    """Whether one of the vectors is of this very recording, up to rounding."""
    assert utterance.embedding is not None, "the caller checks that there is an embedding"
    alike = voiceprint.vectors @ utterance.embedding > _SAME_COSINE  # (n,)
    as_long = np.abs(voiceprint.speech_s - utterance.quality.net_speech_s) < _SAME_SPEECH_S  # (n,)
    return bool((alike & as_long).any())


def _speech_s(voiceprint: Voiceprint) -> float:
    return float(voiceprint.speech_s.sum())
