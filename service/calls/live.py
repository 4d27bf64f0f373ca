"""Live verification: one use case for a recording in one message and for a call that is streamed.

    begin ───> read the speaker and its failures at once; refuse if locked, or decide without audio
    hear ────> decide as windows come, and search the groups that were asked for
    finish ──> decide ─> count a failure ─> audit ─> publish ─> note the use, adapt ─> answer

A recording is a call that finishes before it hears anything.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256

from service.access import current
from service.access.limits import ComparisonBudgets
from service.audit import Action, Auditor
from service.calls.call_events import CallEvents
from service.calls.claims import Claim, measure_lead, resolve_claim
from service.calls.identification import Identification, Identifier
from service.calls.models import LoadedModel, LoadedModels
from service.calls.running_decision import RunningDecision
from service.calls.screening import NO_FINDINGS, Findings, Screening
from service.decisions.decision import Decision, Outcome
from service.decisions.policy import AS_SERVER, RequestedPolicy
from service.decisions.stamp import DecisionStamper
from service.errors import Unavailable
from service.events import Publish, publish_nothing
from service.inference.embedder import AudioSource, Stream
from service.observability import metrics
from service.speakers.adaptation import AcceptedCall, CallLearner
from service.speakers.verification_attempts import VerificationAttempt, VerificationAttempts
from service.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VerificationRequest:
    """Who is claimed (empty: nobody), how to decide, and which groups to search besides:
    `watchlists` for matches, `group` for the `max_candidates` likeliest members. If `continuous`,
    an accepted call is watched for a change of voice; if `stop_at_decision`, the call ends at the
    first conclusive decision. `alternatives` are who else may be speaking."""

    speaker_id: str
    policy: RequestedPolicy = AS_SERVER
    watchlists: Sequence[str] = ()
    group: str = ""
    max_candidates: int = 1
    continuous: bool = False
    stop_at_decision: bool = False
    alternatives: Sequence[str] = ()

    @property
    def claimed(self) -> tuple[str, ...]:
        """All speakers one of whom is claimed to speak; empty if nobody is."""
        return (self.speaker_id, *self.alternatives) if self.speaker_id else ()

    @property
    def searches(self) -> bool:
        """Whether the request asks for any group to be searched."""
        return bool(self.watchlists or self.group)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller is sent. `done` is set on the last answer of a call."""

    decision: Decision
    findings: Findings = NO_FINDINGS
    done: bool = False


class LiveVerifications:
    """Begins verifications, and holds what they share; `clock` is in seconds since the epoch."""

    def __init__(
        self,
        *,
        store: Store,
        models: LoadedModels,
        attempts: VerificationAttempts,
        identifier: Identifier,
        learner: CallLearner,
        budgets: ComparisonBudgets,
        auditor: Auditor,
        publish: Publish = publish_nothing,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.models = models
        self.learner = learner
        self.budgets = budgets
        self.auditor = auditor
        self.publish = publish
        self.clock = clock
        self._attempts = attempts
        self._identifier = identifier

    @asynccontextmanager
    async def begin(
        self, request: VerificationRequest, source: AudioSource
    ) -> AsyncIterator["LiveVerification"]:
        """Open an attempt, and close it however the call ends. Raises `SpeakerLocked`,
        `InvalidArgument` for a policy out of range, and `NotFound` for a group that does not exist.
        """
        async with self._attempts.open(*request.claimed) as attempt:
            call = LiveVerification(self, request, attempt, self._make_screening(request))
            await call.prepare(source)
            try:
                yield call
            finally:
                await call.events.abandon()

    def _make_screening(self, request: VerificationRequest) -> Screening | None:
        if not request.searches:
            return None
        return Screening(
            self._identifier,
            current().tenant,
            request.policy.fill_in(self.models.current.defaults),
            watchlists=request.watchlists,
            group=request.group,
            max_candidates=request.max_candidates,
        )


class LiveVerification:
    """One call: `hear` its audio piece by piece, then `finish`."""

    def __init__(
        self,
        shared: LiveVerifications,
        request: VerificationRequest,
        attempt: VerificationAttempt,
        screening: Screening | None,
    ) -> None:
        self._shared = shared
        self._request = request
        self._attempt = attempt
        self._screening = screening
        self._caller = current()
        self.events = CallEvents(shared.auditor.origin(), shared.publish)
        self._stamper = DecisionStamper(request.speaker_id, shared.clock)
        self._model, self._claim = self._resolve_claim()
        self._charged_windows = 0
        self._early_answer: Answer | None = None
        self._stream: Stream | None = None
        self._decision: RunningDecision | None = None
        learns = isinstance(self._claim, Claim) and any(
            shared.learner.learns_from(voice.verifier.model_id) for voice in self._claim.voices
        )
        self._digest = sha256() if learns else None

    @property
    def stream(self) -> Stream:
        """The stream that embeds the call's audio."""
        assert self._stream is not None, "a call that needs audio has one"
        return self._stream

    @property
    def needs_audio(self) -> bool:
        """Whether the last answer still depends on audio to come."""
        return self._early_answer is None

    async def prepare(self, source: AudioSource) -> None:
        """Read the groups to search, unless the call is decided without audio."""
        policy = self._request.policy.fill_in(self._model.defaults)
        claim = self._claim
        if isinstance(claim, Decision) and (
            self._screening is None or claim.outcome is Outcome.OPTED_OUT
        ):
            self._early_answer = Answer(self._stamper.stamp(claim))
            return
        self._spend(0)
        if self._screening is not None:
            await self._screening.prepare()
        self._stream = self._shared.models.open_stream(
            self._model,
            source,
            searching=self._screening is not None
            or (isinstance(claim, Claim) and claim.needs_both_models),
        )
        self._decision = RunningDecision(
            self._stream,
            self._model.verifier,
            claim,
            policy,
            continuous=self._request.continuous,
        )

    async def hear(self, audio: bytes) -> Answer | None:
        """Take the next audio and return a new answer, if there is one that may be sent. Raises
        `AudioError`, `SpeakerLocked`, and `OverLimit` beyond a budget of compared windows."""
        running_decision = self._running_decision
        if self._digest is not None:
            self._digest.update(audio)
        if (decision := await running_decision.hear(audio)) is None:
            return None
        decision = self._stamper.stamp(decision)
        self._charge(self.stream.windows)
        screening, findings = self._screening, NO_FINDINGS
        if screening is not None:
            findings = await screening.search_so_far(running_decision.utterance)
        if self._request.stop_at_decision and self._is_decided:
            self._early_answer = Answer(decision, findings)
            return None
        if not await self._attempt.may_answer(decision):
            return None
        await self.events.note(decision, findings)
        return Answer(decision, findings)

    async def finish(self, audio: bytes | None = None) -> Answer:
        """Take the last audio, if any, and return the last answer, after its failure is counted and
        it is audited. Raises as `hear`, and `Unavailable` if that cannot be stored."""
        answer = self._early_answer or await self._make_last_answer(audio)
        decision, findings = answer.decision, answer.findings
        await self._attempt.settle(decision, matches=len(findings.matches))
        metrics.count_decision(decision)
        if findings.identification is not None:
            await audit_identification(
                self._shared.auditor, findings.identification, self._request.group
            )
        await self.events.end(decision, findings)
        if decision.meets_server_policy:
            await self._note_accepted(decision)
        return replace(answer, done=True)

    async def _make_last_answer(self, audio: bytes | None) -> Answer:
        running_decision = self._running_decision
        if self._digest is not None and audio is not None:
            self._digest.update(audio)
        decision = self._stamper.stamp(await running_decision.finish(audio))
        utterance = running_decision.utterance
        self._charge(utterance.windows)
        if self._screening is None:
            return Answer(decision)
        return Answer(decision, await self._screening.finish(utterance))

    async def _note_accepted(self, decision: Decision) -> None:
        """Note a call that the server itself accepts: it keeps the voice from expiring and, if the
        caller was told so and the rules allow it, improves the voice; of several claimed voices
        only the likeliest. If the store is full or away, only log it: the decision stands."""
        speaker, shared = self._attempt.speakers[decision.likeliest], self._shared
        assert speaker is not None, "a voice of the speaker was compared"
        model_id = decision.model_id
        try:
            at = shared.clock()
            if not speaker.voiceprints[model_id].has_noted_use(at):
                await shared.store.touch(speaker.tenant, speaker.speaker_id, model_id, at=at)
            if self._digest is None or decision.outcome is not Outcome.ACCEPTED:
                return
            accepted = self._running_decision.accepted_by_server
            assert accepted is not None, "the decision meets the server's policy"
            utterance, digest = self._running_decision.utterance, self._digest.hexdigest()
            if utterance.also is not None:
                utterance = utterance.for_model(model_id)
            lead_llr = measure_lead(accepted.claimed)
            await shared.learner.learn(
                AcceptedCall(speaker, utterance, accepted, digest, lead_llr=lead_llr)
            )
        except Unavailable as error:
            log.warning("an accepted call was not noted: %s", error)

    def _resolve_claim(self) -> tuple[LoadedModel, Claim | Decision | None]:
        models, attempt = self._shared.models, self._attempt
        if not self._request.claimed:
            return models.current, None
        return resolve_claim(models, self._request.claimed, attempt.speakers, attempt.locked)

    @property
    def _running_decision(self) -> RunningDecision:
        assert self._decision is not None, "a call that needs audio has one"
        return self._decision

    @property
    def _is_decided(self) -> bool:
        """Whether the claim is decided or, without a claim, the search."""
        if self._claim is None and self._screening is not None:
            return self._screening.is_decided
        return self._running_decision.is_decided

    def _charge(self, windows: int) -> None:
        """Charge the windows since the last answer: at least one, as every answer compares."""
        self._spend(max(1, windows - self._charged_windows))
        self._charged_windows = windows

    def _spend(self, windows: int) -> None:
        """Spend them for each voice that they are compared with, or for a search."""
        voices = self._claim.voices if isinstance(self._claim, Claim) else ()
        for compared in [voice.speaker_id for voice in voices] or [""]:
            self._shared.budgets.spend(self._caller, compared, windows)


async def audit_identification(
    auditor: Auditor, identification: Identification, group: str
) -> None:
    """Audit and count the last decision of a search; await it before the decision is sent."""
    decision, candidates = identification.decision, identification.candidates
    speaker_id = candidates[0].speaker_id if decision.outcome is Outcome.ACCEPTED else ""
    await auditor.record_decision(Action.IDENTIFY, decision, speaker_id, group=group)
    metrics.count_identification(decision)
