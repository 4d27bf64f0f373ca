"""Takes an utterance through the steps of an enrollment."""

from dataclasses import replace

from service.audio.quality import Quality
from service.contract import Contract
from service.decisions.decision import Reason, explain
from service.decisions.policy import QualityGate
from service.inference.embedder import Utterance
from service.settings import Duplicates, EnrollmentRules
from service.speakers.enrollment.checks import UtteranceChecks, require_willing
from service.speakers.enrollment.duplicates import DuplicateSearch
from service.speakers.enrollment.growth import Mismatch, VoiceprintGrowth, holds_utterance
from service.speakers.enrollment.progress import Progress, SpeakerVoices
from service.speakers.enrollment.request import Enrollment, EnrollmentRequest, refuse, report
from service.speakers.lifecycle import (
    FOR_EVER,
    Retention,
    change_speaker,
    expire,
    record_enrollment,
    set_consent,
)
from service.speakers.voiceprints import ModelSuccession
from service.store import Speaker, SpeakerState, Store

_DIGESTS_KEPT = 200
_REQUEST_IDS_KEPT = 32
_DEFAULT_RULES = EnrollmentRules()


class _AlreadyEnrolled(Exception):
    """Stops a write: `speaker` holds the recording, or an enrollment by the same request id."""

    def __init__(self, speaker: Speaker) -> None:
        super().__init__()
        self.speaker = speaker


class Enroller:
    """Keeps one vector for each utterance, weighted by its net speech; the longest `max_vectors`
    stay.

    `gate` is for each utterance, `min_speech_s` of net speech for all of them together. With the
    contract of a `previous` model, utterances are embedded with both; new voices are made with
    that of `contract`, and a speaker who has a voice of the previous model must sound like it.
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
        contracts = (contract, *filter(None, [previous]))
        self.model_id = contract.model_id
        self.checks = UtteranceChecks(contracts, gate=gate, rules=rules)
        self.voices = SpeakerVoices(
            ModelSuccession(tuple(each.model_id for each in contracts), min_speech_s), retention
        )
        self._growth = VoiceprintGrowth(
            self.model_id, self.checks.llr, rules.match_llr, max_vectors
        )
        self._store = store
        self._gate = gate
        self._rules = rules
        self._retention = retention
        self._search = DuplicateSearch(
            store,
            {each.model_id: each for each in contracts},
            select=self.voices.get_comparable,
            llr=self.checks.compare,
            alarm_rate=rules.duplicate_alarm_rate,
            limit=rules.duplicate_limit,
        )

    async def open(self, request: EnrollmentRequest) -> Progress:
        """How far the enrollment has come before the request; raises `FailedPrecondition` as
        `require_willing` does."""
        current = await self._store.get(request.tenant, request.speaker_id)
        self._require_willing(current, request)
        return self.voices.measure(None if request.replacing else current)

    async def add(self, request: EnrollmentRequest, utterance: Utterance) -> Enrollment:
        """Store the utterance's embedding if its audio allows; durable on return.

        Raises `Aborted` when `request.etag` is stale. Concurrent enrollments lose nothing.
        """
        if reasons := self.checks.list_shortcomings(utterance.quality):
            progress = await self.open(request)
            why = explain(reasons, progress.needed_s, utterance.quality, self._gate)
            return refuse(progress, utterance.quality, reasons, why)
        if not self.checks.is_one_voice(utterance):
            return await self._refuse_doubtful(request, utterance, Reason.MULTIPLE_VOICES)
        policy = request.duplicates or self._rules.duplicates
        duplicates: tuple[str, ...] = ()
        if policy is not Duplicates.ALLOW:
            duplicates = await self._search.find(request.tenant, request.speaker_id, utterance)
        if duplicates and policy is Duplicates.REFUSE:
            refusal = await self._refuse_doubtful(request, utterance, Reason.ALREADY_ENROLLED)
            return replace(refusal, duplicates=duplicates)
        try:
            speaker = await self._store_utterance(request, utterance)
        except Mismatch:
            return await self._refuse_doubtful(request, utterance, Reason.VOICE_MISMATCH)
        except _AlreadyEnrolled as repeated:
            speaker = repeated.speaker
        return report(
            speaker,
            self.voices.measure(speaker),
            utterance.quality,
            duplicates,
            expires_at=self._retention.expires_at(speaker),
        )

    def would_complete(self, before: Progress, quality: Quality) -> bool:
        """Whether audio of this quality would complete an enrollment that had come so far."""
        total = self.voices.measure_speech(before.speech_s + quality.net_speech_s)
        return not (total.needed_s or self.checks.list_shortcomings(quality))

    def extend(self, speaker: Speaker, utterance: Utterance, now: float) -> Speaker:
        """Add an utterance to the voice of this model; raises `Mismatch` if it is another voice, or
        if the voice already holds this recording."""
        voiceprint = self.voices.get_newest(speaker)
        if voiceprint and holds_utterance(voiceprint, utterance):
            raise Mismatch
        return self.voices.set_voiceprint(speaker, self._growth.extend(voiceprint, utterance, now))

    def adapt(self, speaker: Speaker, call: Utterance, floor_llr: float, digest: str) -> Speaker:
        """Add a call to the voice of this model, and the `digest` of its recording to the speaker.

        Raises `Mismatch` if there is no such voice, if the call's llr against what was enrolled is
        below `floor_llr`, or if its recording is part of the voice already, or ever was.
        """
        voiceprint = self.voices.get_newest(speaker)
        if voiceprint is None:
            raise Mismatch
        self._growth.require_new(speaker, call, digest)
        grown = self._growth.adapt(voiceprint, call, floor_llr)
        adapted = self.voices.set_voiceprint(speaker, grown)
        if adapted.state is not SpeakerState.ENROLLED:
            raise Mismatch
        digests = (*speaker.adapted_from, digest)[-_DIGESTS_KEPT:]
        return replace(adapted, adapted_from=digests)

    async def _store_utterance(self, request: EnrollmentRequest, utterance: Utterance) -> Speaker:
        now = self._retention.clock()
        return await change_speaker(
            self._store,
            request.tenant,
            request.speaker_id,
            lambda current: self._enroll(current, request, utterance, now),
            etag=request.etag,
            new=Speaker(request.tenant, request.speaker_id, SpeakerState.PENDING, now, now),
        )

    def _enroll(
        self, current: Speaker, request: EnrollmentRequest, utterance: Utterance, now: float
    ) -> Speaker:
        self._require_willing(current, request)
        has_expired = self._retention.state(current) is SpeakerState.EXPIRED
        speaker = expire(current, now=now) if has_expired else current
        if request.request_id and request.request_id in speaker.request_ids:
            raise _AlreadyEnrolled(current)
        voiceprint = self.voices.get_newest(speaker)
        if (
            voiceprint
            and holds_utterance(voiceprint, utterance)
            and (not request.replacing or len(voiceprint.speech_s) == 1)
        ):
            return _repeat(current, request, now)
        base = replace(speaker, voiceprints={}) if request.replacing else speaker
        counting = self.voices.succession.select(base.voiceprints)
        if counting is not None and counting.model_id != self.model_id:
            self.checks.require_same_voice(counting, utterance)
        trusted = speaker.state is SpeakerState.ENROLLED and not request.replacing
        after = self.voices.set_voiceprint(
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
                request_ids=_add_request_id(speaker.request_ids, request.request_id),
            ),
            self._growth.extend(self.voices.get_newest(base), utterance, now),
        )
        return record_enrollment(current, after, now=now)

    def _require_willing(self, speaker: Speaker | None, request: EnrollmentRequest) -> None:
        required = self._rules.consent_required
        require_willing(speaker, request, self._retention, consent_required=required)

    async def _refuse_doubtful(
        self, request: EnrollmentRequest, utterance: Utterance, doubt: Reason
    ) -> Enrollment:
        progress = await self.open(request)
        return refuse(progress, utterance.quality, (doubt,), explain((doubt,), 0.0))


def _add_request_id(request_ids: tuple[str, ...], request_id: str) -> tuple[str, ...]:
    return (*request_ids, request_id)[-_REQUEST_IDS_KEPT:] if request_id else request_ids


def _repeat(current: Speaker, request: EnrollmentRequest, now: float) -> Speaker:
    """Store the metadata and consent of a request whose recording the voice holds already; raises
    `_AlreadyEnrolled` if they are not new either."""
    metadata = {**current.metadata, **request.metadata}
    if metadata == current.metadata and request.consent in (None, current.consent):
        raise _AlreadyEnrolled(current)
    if request.consent is not None:
        current = set_consent(current, request.consent, now=now)
    return replace(current, metadata=metadata, updated_at=now)
