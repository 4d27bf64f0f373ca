"""Enrolment: adds the speech of one utterance to a speaker's voice, and says what is missing.

    utterance ─> good enough? ─> one voice? ─> nobody else's? ─> the voice so far? ─> stored
                     │               │               │                  │
                  Reason      MULTIPLE_VOICES  ALREADY_ENROLLED   VOICE_MISMATCH

A check that needs a calibrated ratio passes where the model has no calibration.
"""

import enum
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from service.audio.quality import Quality
from service.contract import Contract
from service.decisions.decision import (
    Decision,
    Demands,
    Outcome,
    Reason,
    explain,
    shortcomings,
)
from service.decisions.scoring import Scorer, voice
from service.errors import FailedPrecondition, NotFound
from service.inference.embedder import Utterance
from service.speakers.duplicates import DuplicateSearch
from service.speakers.succession import Succession
from service.speakers.voiceprints import (
    LogRatio,
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

log = logging.getLogger(__name__)


class Duplicates(enum.StrEnum):
    """What to do with a voice that is already enrolled under another id."""

    ALLOW = "allow"
    FLAG = "flag"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator asks of enrolments. Ratios are natural-log likelihood ratios.

    `match_llr` is the least of new speech against the voice so far, `coherence_llr` the least
    between two windows of one recording, on average, `parts_llr` the least between the two parts of
    it that are least alike. At most `duplicate_limit` speakers are
    compared, so that enrolling a new voice raises a false alarm at `duplicate_alarm_rate`. A
    decision `adapt_margin_llr` above its threshold, on `adapt_speech_s` of net speech or more,
    adapts the voice.
    """

    consent_required: bool = False
    confirm: bool = False
    match_llr: float = 0.0
    coherence_llr: float = 1.0
    parts_llr: float = -1.0
    duplicates: Duplicates = Duplicates.ALLOW
    duplicate_alarm_rate: float = 0.01
    duplicate_limit: int = 10_000
    adapt: bool = False
    adapt_margin_llr: float = 3.0
    adapt_speech_s: float = 5.0


_DEFAULT_RULES = Rules()


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """Whose voice to enrol. `replacing` forgets what was enrolled before; with an `etag` the
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
class Enrolment:
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


class _AlreadyHeld(Exception):
    """Keeps a write from happening: the voice of `speaker` holds the recording."""

    def __init__(self, speaker: Speaker) -> None:
        super().__init__()
        self.speaker = speaker


class Enroller:
    """Keeps one vector per utterance, weighted by its net speech; the longest `max_vectors` stay.

    `demands` are on each utterance, `min_speech_s` of net speech on all of them together. With the
    contract of a `previous` model, utterances are heard in both spaces; new voices are made in that
    of `contract`, and one who has a voice of the previous model only enrols with that voice.
    """

    def __init__(
        self,
        store: Store,
        *,
        contract: Contract,
        demands: Demands,
        min_speech_s: float,
        max_vectors: int,
        rules: Rules = _DEFAULT_RULES,
        retention: Retention = FOR_EVER,
        previous: Contract | None = None,
    ) -> None:
        accepted = (contract, *filter(None, [previous]))
        self.succession = Succession(tuple(each.model_id for each in accepted), min_speech_s)
        scorers = {each.model_id: Scorer(each) for each in accepted}
        self._scorer = scorers[contract.model_id]
        self._ratios = {
            each.model_id: _log_ratio(scorers[each.model_id])
            for each in accepted
            if each.calibration
        }
        self._store = store
        self._contract = contract
        self._model_id = contract.model_id
        self._log_ratio = self._ratios.get(contract.model_id)
        self._demands = demands
        self._min_speech_s = min_speech_s
        self._max_vectors = max_vectors
        self._rules = rules
        self._retention = retention
        self._search = DuplicateSearch(
            store,
            {each.model_id: each for each in accepted},
            in_use=self._comparable,
            ratio=self._ratio,
            alarm_rate=rules.duplicate_alarm_rate,
            limit=rules.duplicate_limit,
        )

    async def open(self, request: EnrolmentRequest) -> Progress:
        """What an enrolment starts from; raises `FailedPrecondition` for one who opted out, or
        without a consent where that is required."""
        found = await self._store.get(request.tenant, request.speaker_id)
        self._refuse_unwilling(found, request)
        return self.progress(None if request.replacing else found)

    async def add(self, request: EnrolmentRequest, utterance: Utterance) -> Enrolment:
        """Stores the utterance's embedding if its audio allows; durable on return.

        Raises `Aborted` when `request.etag` is stale. Concurrent enrolments lose nothing.
        """
        if reasons := shortcomings(utterance.quality, self._demands):
            progress = await self.open(request)
            why = explain(reasons, progress.needed_s, utterance.quality, self._demands)
            return _refused(progress, utterance, reasons, why)
        if not self._coherent(utterance):
            return await self._doubted(request, utterance, Reason.MULTIPLE_VOICES)
        duplicates = await self._duplicates(request, utterance)
        if duplicates and self._policy(request) is Duplicates.REFUSE:
            made = await self._doubted(request, utterance, Reason.ALREADY_ENROLLED)
            return replace(made, duplicates=duplicates)
        try:
            speaker = await self._stored(request, utterance)
        except Mismatch:
            return await self._doubted(request, utterance, Reason.VOICE_MISMATCH)
        except _AlreadyHeld as held:
            speaker = held.speaker
        return self._made(speaker, utterance, duplicates)

    async def adapt(
        self, speaker: Speaker, utterance: Utterance, decision: Decision, digest: str
    ) -> Speaker | None:
        """Adds speech that the server's own `decision` accepts beyond doubt to the voice; None
        where the rules, or a change of the speaker meanwhile, forbid it. `digest` is the
        recording's."""
        if not self.adapts(utterance, decision):
            return None
        assert decision.threshold is not None, "it was accepted"
        floor_llr = decision.threshold.llr

        def step(found: Speaker) -> Speaker:
            held = self._held(found)
            if held is None or self._retention.state(found) is not SpeakerState.ENROLLED:
                raise Mismatch
            self._require_new(found, utterance, digest)
            now = self._retention.clock()
            after = self._with(found, self._adapted(held, utterance, floor_llr))
            if after.state is not SpeakerState.ENROLLED:
                raise Mismatch
            digests = (*found.adapted_from, digest)[-_DIGESTS_KEPT:]
            return enrolled(found, replace(after, adapted_from=digests), now=now, adapted=True)

        try:
            adapted = await change(self._store, speaker.tenant, speaker.speaker_id, step)
        except (Mismatch, NotFound):
            return None
        log.info("adapted a voice with %.1f s of net speech", utterance.quality.net_speech_s)
        return adapted

    def adapts(self, utterance: Utterance, decision: Decision) -> bool:
        """Whether the rules let an accepted call improve the voice."""
        score, threshold = decision.score, decision.threshold
        return (
            self._rules.adapt
            and decision.outcome is Outcome.ACCEPTED
            and decision.model_id == self._model_id
            and score is not None
            and threshold is not None
            and score.llr >= threshold.llr + self._rules.adapt_margin_llr
            and utterance.embedding is not None
            and utterance.quality.net_speech_s >= self._rules.adapt_speech_s
            and not shortcomings(utterance.quality, self._demands)
            and self._coherent(utterance)
        )

    def good(self, utterance: Utterance) -> bool:
        """Whether the audio would be enrolled, whoever it is of."""
        return not shortcomings(utterance.quality, self._demands) and self._coherent(utterance)

    def extended(self, speaker: Speaker, utterance: Utterance, now: float) -> Speaker:
        """The speaker with the utterance in the voice of this model; raises `Mismatch` if it is
        not that voice, and if that voice holds this very recording already."""
        held = self._held(speaker)
        if held and _holds(held, utterance):
            raise Mismatch
        return self._with(speaker, self._extended(held, utterance, now))

    def progress(self, speaker: Speaker | None) -> Progress:
        """How far a speaker's enrolment with this model has come."""
        held = self._held(speaker) if speaker else None
        return self.progress_at(_speech_s(held) if held else 0.0)

    def standing(self, speaker: Speaker) -> Progress:
        """How far a speaker's enrolment has come with the model that counts."""
        held = self._in_use(speaker)
        return self.progress_at(_speech_s(held) if held else 0.0)

    def progress_at(self, speech_s: float) -> Progress:
        return Progress(speech_s, max(0.0, self._min_speech_s - speech_s))

    def enough(self, before: Progress, heard: Quality) -> bool:
        """Whether audio that is good enough completes an enrolment that had come so far."""
        speech_s = before.speech_s + heard.net_speech_s
        return not (self.progress_at(speech_s).needed_s or shortcomings(heard, self._demands))

    def _made(
        self, speaker: Speaker, utterance: Utterance, duplicates: tuple[str, ...]
    ) -> Enrolment:
        progress = self.progress(speaker)
        clauses = ["enrolled"]
        if speaker.state is SpeakerState.UNCONFIRMED:
            clauses = ["enrolled, and waiting for an operator's confirmation"]
        if progress.needed_s:
            clauses = [f"{progress.needed_s:.1f} s more of net speech are needed"]
        if duplicates:
            clauses.append(explain((Reason.ALREADY_ENROLLED,), 0.0))
        return Enrolment(
            progress,
            utterance.quality,
            "; ".join(clauses),
            speaker,
            reasons=(Reason.ALREADY_ENROLLED,) if duplicates else (),
            duplicates=duplicates,
            expires_at=self._retention.expires_at(speaker),
        )

    async def _doubted(
        self, request: EnrolmentRequest, utterance: Utterance, doubt: Reason
    ) -> Enrolment:
        return _refused(await self.open(request), utterance, (doubt,), explain((doubt,), 0.0))

    async def _stored(self, request: EnrolmentRequest, utterance: Utterance) -> Speaker:
        now = self._retention.clock()
        return await change(
            self._store,
            request.tenant,
            request.speaker_id,
            lambda found: self._changed(found, request, utterance, now),
            etag=request.etag,
            new=Speaker(request.tenant, request.speaker_id, SpeakerState.PENDING, now, now),
        )

    def _changed(
        self, found: Speaker, request: EnrolmentRequest, utterance: Utterance, now: float
    ) -> Speaker:
        self._refuse_unwilling(found, request)
        lapsed = self._retention.state(found) is SpeakerState.EXPIRED
        speaker = expired(found, now=now) if lapsed else found
        held = self._held(speaker)
        if held and _holds(held, utterance) and (not request.replacing or len(held.speech_s) == 1):
            return self._repeated(found, request, now)
        base = replace(speaker, voiceprints={}) if request.replacing else speaker
        self._require_same_voice(base, utterance)
        trusted = speaker.state is SpeakerState.ENROLLED and not request.replacing
        after = self._with(
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
                enrolled_by=tuple(dict.fromkeys((*found.enrolled_by, request.credential))),
            ),
            self._extended(self._held(base), utterance, now),
        )
        return enrolled(found, after, now=now)

    def _repeated(self, found: Speaker, request: EnrolmentRequest, now: float) -> Speaker:
        """After an enrolment of what the voice holds already: only what else it says is new.

        Raises `_AlreadyHeld` where that is nothing.
        """
        metadata = {**found.metadata, **request.metadata}
        if metadata == found.metadata and request.consent in (None, found.consent):
            raise _AlreadyHeld(found)
        if request.consent is not None:
            found = consented(found, request.consent, now=now)
        return replace(found, metadata=metadata, updated_at=now)

    def _with(self, speaker: Speaker, voiceprint: Voiceprint) -> Speaker:
        """The speaker with the voiceprint, in the state that follows from it."""
        complete = (
            SpeakerState.UNCONFIRMED if speaker.awaits_confirmation else SpeakerState.ENROLLED
        )
        voiceprints = {**speaker.voiceprints, self._model_id: voiceprint}
        held = self.succession.in_use(voiceprints)
        enough = held is not None and _speech_s(held) >= self._min_speech_s
        return replace(
            speaker,
            state=complete if enough else SpeakerState.PENDING,
            voiceprints=voiceprints,
        )

    def _require_same_voice(self, speaker: Speaker, utterance: Utterance) -> None:
        """Raises `Mismatch` if the utterance is not the voice of a previous model that counts."""
        held = self.succession.in_use(speaker.voiceprints)
        if held is None or held.model_id not in self._ratios or held.model_id == self._model_id:
            return
        if self._ratio(held, utterance) < self._rules.match_llr:
            raise Mismatch

    def _ratio(self, held: Voiceprint, utterance: Utterance) -> float:
        """Of the utterance against a voiceprint, in its space; needs a calibration of its model."""
        own = held.model_id == self._model_id
        heard = (utterance if own else utterance.within(held.model_id)).embedding
        assert heard is not None, "the demands are what every model needs"
        quality = utterance.quality
        return self._ratios[held.model_id](held, heard, quality.net_speech_s, quality.snr_db)

    def _in_use(self, speaker: Speaker) -> Voiceprint | None:
        """The voiceprint that counts, unless it has expired."""
        if self._retention.state(speaker) is SpeakerState.EXPIRED:
            return None
        return self.succession.in_use(speaker.voiceprints)

    def _comparable(self, speaker: Speaker) -> Voiceprint | None:
        """The voiceprint that others' may be compared with."""
        return None if self._retention.lacks_consent(speaker) else self._in_use(speaker)

    def _held(self, speaker: Speaker) -> Voiceprint | None:
        """The voiceprint of this model, unless it has expired."""
        if self._retention.state(speaker) is SpeakerState.EXPIRED:
            return None
        return speaker.voiceprints.get(self._model_id)

    def _extended(self, held: Voiceprint | None, utterance: Utterance, now: float) -> Voiceprint:
        """`held` and the utterance, without outliers; raises `Mismatch` if it is not the voice."""
        assert utterance.embedding is not None, "the caller checks that there is an embedding"
        heard, speech_s = utterance.embedding, utterance.quality.net_speech_s
        if held is None:
            return Voiceprint(self._model_id, heard[None, :], np.array([speech_s], np.float32), now)
        joined = with_enrolled(held, heard, speech_s)
        if self._log_ratio is not None:
            snr_db = utterance.quality.snr_db
            if self._log_ratio(held, heard, speech_s, snr_db) < self._rules.match_llr:
                raise Mismatch
            joined = without_outliers(joined, self._log_ratio, least_llr=self._rules.match_llr)
        return longest(joined, self._max_vectors)

    def _adapted(self, held: Voiceprint, utterance: Utterance, floor_llr: float) -> Voiceprint:
        """`held` and a call; raises `Mismatch` if it is not the voice that was enrolled, or there
        is no room beside what was."""
        heard, speech_s = utterance.embedding, utterance.quality.net_speech_s
        assert heard is not None, "the rules ask for an embedding"
        assert self._log_ratio is not None, "the call was accepted by a calibrated ratio"
        enrolled_only = enrolled_part(held)
        keep = len(enrolled_only.speech_s)
        snr_db = utterance.quality.snr_db
        if self._log_ratio(enrolled_only, heard, speech_s, snr_db) < floor_llr:
            raise Mismatch
        joined = with_adapted(held, heard, speech_s)
        least_llr = self._rules.match_llr
        joined = without_outliers(joined, self._log_ratio, least_llr=least_llr, keep=keep)
        grown = longest(joined, self._max_vectors)
        if not same_recording([grown], heard):
            raise Mismatch
        return grown

    def _require_new(self, speaker: Speaker, utterance: Utterance, digest: str) -> None:
        """Raises `Mismatch` for a recording that the voice holds, held, or was adapted with."""
        assert utterance.embedding is not None, "the rules ask for an embedding"
        voices = (speaker.voiceprints, *(each.voiceprints for each in speaker.history))
        held = [each[self._model_id] for each in voices if self._model_id in each]
        if digest in speaker.adapted_from or same_recording(held, utterance.embedding):
            raise Mismatch

    def _coherent(self, utterance: Utterance) -> bool:
        """Whether all of it sounds like one person."""
        if self._contract.calibration is None or utterance.embedding is None:
            return True
        embedding, scorer = utterance.embedding, self._scorer
        if utterance.parts is not None:
            speech_s = utterance.quality.net_speech_s
            if scorer.parts_ratio(embedding, utterance.parts, speech_s) < self._rules.parts_llr:
                return False
        if utterance.coherence is None:
            return True
        return scorer.coherence_ratio(embedding, utterance.coherence) >= self._rules.coherence_llr

    def _policy(self, request: EnrolmentRequest) -> Duplicates:
        return request.duplicates or self._rules.duplicates

    async def _duplicates(self, request: EnrolmentRequest, utterance: Utterance) -> tuple[str, ...]:
        if self._policy(request) is Duplicates.ALLOW:
            return ()
        return await self._search.others(request.tenant, request.speaker_id, utterance)

    def _refuse_unwilling(self, speaker: Speaker | None, request: EnrolmentRequest) -> None:
        if speaker is not None and speaker.state is SpeakerState.OPTED_OUT:
            raise FailedPrecondition(
                "the speaker opted out of voice verification; opt in again first"
            )
        lacking = speaker is not None and self._retention.lacks_consent(speaker)
        required = self._rules.consent_required and (speaker is None or speaker.consent is None)
        if request.consent is None and (lacking or required):
            raise FailedPrecondition(
                "enrolment needs the speaker's consent, and there is none, or it was withdrawn; "
                "send `consent` with the enrolment, or "
                "record it with UpdateSpeaker first"
            )


def _log_ratio(scorer: Scorer) -> LogRatio:
    def ratio(
        held: Voiceprint, heard: NDArray[np.float32], speech_s: float, snr_db: float | None
    ) -> float:
        return scorer.log_ratio(
            voice(held.vectors, held.speech_s),
            heard,
            enrol_speech_s=_speech_s(held),
            test_speech_s=speech_s,
            snr_db=snr_db,
        )

    return ratio


def _refused(
    progress: Progress, utterance: Utterance, reasons: tuple[Reason, ...], why: str
) -> Enrolment:
    return Enrolment(progress, utterance.quality, f"nothing was enrolled: {why}", reasons=reasons)


def _holds(held: Voiceprint, utterance: Utterance) -> bool:
    """Whether one of the vectors is of this very recording, to what arithmetic may differ by."""
    assert utterance.embedding is not None, "the caller checks that there is an embedding"
    alike = held.vectors @ utterance.embedding > _SAME_COSINE  # (n,)
    as_long = np.abs(held.speech_s - utterance.quality.net_speech_s) < _SAME_SPEECH_S  # (n,)
    return bool((alike & as_long).any())


def _speech_s(held: Voiceprint) -> float:
    return float(held.speech_s.sum())
