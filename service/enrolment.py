"""Enrolment: adds the speech of one utterance to a speaker's voice, and says what is missing.

    utterance ─> good enough? ─> one voice? ─> nobody else's? ─> the voice so far? ─> stored
                     │               │               │                  │
                  Reason      MULTIPLE_VOICES  ALREADY_ENROLLED   VOICE_MISMATCH

A check that needs a calibrated ratio passes where the model has no calibration.
"""

import enum
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.contract import Calibration, Contract
from service.decision import (
    Decision,
    Demands,
    Outcome,
    Reason,
    explain,
    false_match_threshold,
    shortcomings,
)
from service.embedder import Utterance
from service.errors import FailedPrecondition, NotFound
from service.quality import Quality
from service.scoring import UNKNOWN_SNR_DB, Measures, cosine, log_likelihood_ratio, voice
from service.store import Consent, Speaker, SpeakerState, Store, Voiceprint
from service.store.lifecycle import FOR_EVER, Retention, change, enrolled, expired

LogRatio: TypeAlias = Callable[[Voiceprint, NDArray[np.float32], float, float | None], float]
"""The natural-log likelihood ratio of an embedding `(dim,)`, its net speech in seconds and its
SNR in decibels, where known, against a voiceprint."""

_PAGE = 200

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
    between two windows of one recording, on average. At most `duplicate_limit` speakers are
    compared, so that enrolling a new voice raises a false alarm at `duplicate_alarm_rate`. A
    decision `adapt_margin_llr` above its threshold, on `adapt_speech_s` of net speech or more,
    adapts the voice.
    """

    consent_required: bool = False
    confirm: bool = False
    match_llr: float = 0.0
    coherence_llr: float = 0.0
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
    write is conditional. `confirm` asks for an operator's confirmation before first use."""

    tenant: str
    speaker_id: str
    replacing: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    consent: Consent | None = None
    etag: str = ""
    confirm: bool = False
    duplicates: Duplicates | None = None


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


class _Mismatch(Exception):
    """Keeps a write from happening: the speech is not of the voice that it would be added to."""


class Enroller:
    """Keeps one vector per utterance, weighted by its net speech; the longest `max_vectors` stay.

    `demands` are on each utterance, `min_speech_s` of net speech on all of them together.
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
    ) -> None:
        self._store = store
        self._contract = contract
        self._model_id = contract.model_id
        self._log_ratio = _log_ratio(contract.calibration) if contract.calibration else None
        self._demands = demands
        self._min_speech_s = min_speech_s
        self._max_vectors = max_vectors
        self._rules = rules
        self._retention = retention

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
            return _refused(progress, utterance, reasons, explain(reasons, progress.needed_s))
        if not self._coherent(utterance):
            return await self._doubted(request, utterance, Reason.MULTIPLE_VOICES)
        duplicates = await self._duplicates(request, utterance)
        if duplicates and self._policy(request) is Duplicates.REFUSE:
            made = await self._doubted(request, utterance, Reason.ALREADY_ENROLLED)
            return replace(made, duplicates=duplicates)
        try:
            speaker = await self._stored(request, utterance)
        except _Mismatch:
            return await self._doubted(request, utterance, Reason.VOICE_MISMATCH)
        return self._made(speaker, utterance, duplicates)

    async def adapt(
        self, speaker: Speaker, utterance: Utterance, decision: Decision
    ) -> Speaker | None:
        """Adds speech that was accepted beyond doubt to the voice; None where the rules, or a
        change of the speaker meanwhile, forbid it."""
        if not self._convincing(utterance, decision):
            return None

        def step(found: Speaker) -> Speaker:
            held = self._held(found)
            if held is None or self._retention.state(found) is not SpeakerState.ENROLLED:
                raise _Mismatch
            now = self._retention.clock()
            after = self._with(found, self._extended(held, utterance, now))
            if after.state is not SpeakerState.ENROLLED:
                raise _Mismatch
            return enrolled(found, after, now=now, adapted=True)

        try:
            adapted = await change(self._store, speaker.tenant, speaker.speaker_id, step)
        except (_Mismatch, NotFound):
            return None
        log.info("adapted a voice with %.1f s of net speech", utterance.quality.net_speech_s)
        return adapted

    def progress(self, speaker: Speaker | None) -> Progress:
        """How far a speaker's enrolment with this model has come."""
        held = self._held(speaker) if speaker else None
        return self.progress_at(_speech_s(held) if held else 0.0)

    def progress_at(self, speech_s: float) -> Progress:
        return Progress(speech_s, max(0.0, self._min_speech_s - speech_s))

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
        base = replace(speaker, voiceprints={}) if request.replacing else speaker
        trusted = speaker.state is SpeakerState.ENROLLED and not request.replacing
        after = self._with(
            replace(
                base,
                metadata={**speaker.metadata, **request.metadata},
                consent=request.consent or speaker.consent,
                awaits_confirmation=(
                    speaker.awaits_confirmation
                    or request.confirm
                    or (self._rules.confirm and not trusted)
                ),
            ),
            self._extended(self._held(base), utterance, now),
        )
        return enrolled(speaker, after, now=now)

    def _with(self, speaker: Speaker, voiceprint: Voiceprint) -> Speaker:
        """The speaker with the voiceprint, in the state that follows from it."""
        complete = (
            SpeakerState.UNCONFIRMED if speaker.awaits_confirmation else SpeakerState.ENROLLED
        )
        enough = _speech_s(voiceprint) >= self._min_speech_s
        return replace(
            speaker,
            state=complete if enough else SpeakerState.PENDING,
            voiceprints={**speaker.voiceprints, self._model_id: voiceprint},
        )

    def _held(self, speaker: Speaker) -> Voiceprint | None:
        """The voiceprint of this model, unless it has expired."""
        if self._retention.state(speaker) is SpeakerState.EXPIRED:
            return None
        return speaker.voiceprints.get(self._model_id)

    def _extended(self, held: Voiceprint | None, utterance: Utterance, now: float) -> Voiceprint:
        """`held` and the utterance, without outliers; raises `_Mismatch` if it is not the voice."""
        assert utterance.embedding is not None, "the caller checks that there is an embedding"
        heard, speech_s = utterance.embedding, utterance.quality.net_speech_s
        if held is None:
            return Voiceprint(self._model_id, heard[None, :], np.array([speech_s], np.float32), now)
        joined = replace(
            held,
            vectors=np.concatenate([held.vectors, heard[None, :]]),  # (n + 1, dim)
            speech_s=np.append(held.speech_s, np.float32(speech_s)),  # (n + 1,)
        )
        if self._log_ratio is not None:
            snr_db = utterance.quality.snr_db
            if self._log_ratio(held, heard, speech_s, snr_db) < self._rules.match_llr:
                raise _Mismatch
            joined = without_outliers(joined, self._log_ratio, least_llr=self._rules.match_llr)
        return _longest(joined, self._max_vectors)

    def _coherent(self, utterance: Utterance) -> bool:
        if self._contract.calibration is None or utterance.coherence is None:
            return True
        return coherence_llr(utterance.coherence, self._contract) >= self._rules.coherence_llr

    def _convincing(self, utterance: Utterance, decision: Decision) -> bool:
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

    def _policy(self, request: EnrolmentRequest) -> Duplicates:
        return request.duplicates or self._rules.duplicates

    async def _duplicates(self, request: EnrolmentRequest, utterance: Utterance) -> tuple[str, ...]:
        """The ids of other speakers who have this voice, the likeliest first.

        Compares every voice of the tenant. Raises `FailedPrecondition` where that cannot be done.
        """
        if self._policy(request) is Duplicates.ALLOW:
            return ()
        calibration = self._contract.calibration
        if calibration is None or self._log_ratio is None or not calibration.false_match:
            raise FailedPrecondition(
                "the model has no calibration, so duplicates cannot be found; allow them, or run "
                "`sayso-export calibrate` on it and restart the server"
            )
        assert utterance.embedding is not None, "the caller checks that there is an embedding"
        heard, quality = utterance.embedding, utterance.quality
        ratios = {
            speaker_id: self._log_ratio(held, heard, quality.net_speech_s, quality.snr_db)
            async for speaker_id, held in self._others(request)
        }
        rate = self._rules.duplicate_alarm_rate / max(len(ratios), 1)
        least_llr = rare_match_threshold(calibration, rate)
        found = [speaker_id for speaker_id, ratio in ratios.items() if ratio >= least_llr]
        return tuple(sorted(found, key=lambda speaker_id: -ratios[speaker_id]))

    async def _others(self, request: EnrolmentRequest) -> AsyncIterator[tuple[str, Voiceprint]]:
        """Every other speaker of the tenant with a voice of this model."""
        seen, after = 0, None
        while True:
            page = await self._store.list(request.tenant, limit=_PAGE, after=after)
            seen += len(page.speakers)
            if seen > self._rules.duplicate_limit:
                raise FailedPrecondition(
                    f"there are more than {self._rules.duplicate_limit} speakers to compare with; "
                    "allow duplicates, or raise SAYSO_DUPLICATE_LIMIT"
                )
            for speaker in page.speakers:
                held = self._held(speaker)
                if held is not None and speaker.speaker_id != request.speaker_id:
                    yield speaker.speaker_id, held
            if page.next_after is None:
                return
            after = page.next_after

    def _refuse_unwilling(self, speaker: Speaker | None, request: EnrolmentRequest) -> None:
        if speaker is not None and speaker.state is SpeakerState.OPTED_OUT:
            raise FailedPrecondition(
                "the speaker opted out of voice verification; opt in again first"
            )
        if self._rules.consent_required and not (request.consent or (speaker and speaker.consent)):
            raise FailedPrecondition(
                "enrolment needs the speaker's consent; send `consent` with the enrolment, or "
                "record it with UpdateSpeaker first"
            )


def coherence_llr(coherence: float, contract: Contract) -> float:
    """The ratio of two windows of a recording, on average, from their mean cosine; needs a
    calibration."""
    assert contract.calibration is not None, "the caller checks that there is a calibration"
    measures = Measures(coherence, contract.window_s, contract.window_s, UNKNOWN_SNR_DB)
    return log_likelihood_ratio(contract.calibration, measures)


def without_outliers(held: Voiceprint, log_ratio: LogRatio, *, least_llr: float) -> Voiceprint:
    """Drops vectors whose ratio against the others is below `least_llr`, the worst first, as long
    as more than two are left: of two nobody can say which is the outlier."""
    while len(held.speech_s) > 2:
        ratios = [
            log_ratio(_without(held, i), held.vectors[i], float(held.speech_s[i]), None)
            for i in range(len(held.speech_s))
        ]
        worst = int(np.argmin(ratios))
        if ratios[worst] >= least_llr:
            break
        held = _without(held, worst)
    return held


def rare_match_threshold(calibration: Calibration, rate: float) -> float:
    """The ratio that `rate` of other voices reach; beyond the rates that were measured it grows by
    one for each factor e, as calibrated ratios do at most (Markov's inequality)."""
    (highest, _), (lowest, _) = calibration.false_match[0], calibration.false_match[-1]
    measured = false_match_threshold(calibration, min(max(rate, lowest), highest))
    return measured + max(0.0, math.log(lowest / rate))


def _log_ratio(calibration: Calibration) -> LogRatio:
    def ratio(
        held: Voiceprint, heard: NDArray[np.float32], speech_s: float, snr_db: float | None
    ) -> float:
        similarity = cosine(voice(held.vectors, held.speech_s), heard)
        known_snr_db = UNKNOWN_SNR_DB if snr_db is None else snr_db
        measures = Measures(similarity, _speech_s(held), speech_s, known_snr_db)
        return log_likelihood_ratio(calibration, measures)

    return ratio


def _refused(
    progress: Progress, utterance: Utterance, reasons: tuple[Reason, ...], why: str
) -> Enrolment:
    return Enrolment(progress, utterance.quality, f"nothing was enrolled: {why}", reasons=reasons)


def _longest(held: Voiceprint, count: int) -> Voiceprint:
    kept = np.sort(np.argsort(held.speech_s)[-count:])
    return replace(held, vectors=held.vectors[kept], speech_s=held.speech_s[kept])


def _without(held: Voiceprint, index: int) -> Voiceprint:
    return replace(
        held,
        vectors=np.delete(held.vectors, index, axis=0),
        speech_s=np.delete(held.speech_s, index),
    )


def _speech_s(held: Voiceprint) -> float:
    return float(held.speech_s.sum())
