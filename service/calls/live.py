"""Live verification: one use case, for a recording in one message as for a call that is streamed.

    begin ───> the speaker and its failures, in one read; locked? a decision without audio?
    hear ────> decisions as windows come, and what the groups say that were asked for
    finish ──> decision ─> failures counted ─> audited ─> use noted, the voice adapted ─> answer

A recording is a call that hears nothing before it finishes.
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
from service.calls.identification import Identification, Identifier
from service.calls.models import LoadedModel, LoadedModels
from service.calls.running_decision import RunningDecision
from service.calls.screening import NO_FINDINGS, Findings, Screening
from service.decisions.decision import Decision, Outcome
from service.decisions.policy import AS_SERVER, RequestedPolicy
from service.errors import Unavailable
from service.inference.embedder import AudioSource, Stream
from service.observability import metrics
from service.speakers.adaptation import AcceptedCall, CallLearner
from service.speakers.lockout import VerificationAttempt, VerificationAttempts
from service.store import Store, Voiceprint

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VerificationRequest:
    """Who is claimed (empty: nobody), how to decide, and the groups to search beside it: on
    `watchlists` for matches, in `group` for the `max_candidates` likeliest. If `continuous`, an
    accepted call is watched for a change of voice; with `stop_at_decision` it ends once decided."""

    speaker_id: str
    policy: RequestedPolicy = AS_SERVER
    watchlists: Sequence[str] = ()
    group: str = ""
    max_candidates: int = 1
    continuous: bool = False
    stop_at_decision: bool = False

    @property
    def searches(self) -> bool:
        """Whether any group is to be searched."""
        return bool(self.watchlists or self.group)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller is sent. `done` says that the call is over."""

    decision: Decision
    findings: Findings = NO_FINDINGS
    done: bool = False


class LiveVerifications:
    """What the verifications of one server share; `clock` is in seconds since the epoch."""

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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.models = models
        self.learner = learner
        self.budgets = budgets
        self.auditor = auditor
        self.clock = clock
        self._attempts = attempts
        self._identifier = identifier

    @asynccontextmanager
    async def begin(
        self, request: VerificationRequest, source: AudioSource
    ) -> AsyncIterator["LiveVerification"]:
        """Opens the attempt, and closes it however the call ends. Raises `SpeakerLocked`,
        `InvalidArgument` for a policy out of range, and `NotFound` for a group that does not exist.
        """
        async with self._attempts.open(request.speaker_id) as attempt:
            call = LiveVerification(self, request, attempt, self._screening(request))
            await call.prepare(source)
            yield call

    def _screening(self, request: VerificationRequest) -> Screening | None:
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
    """One call: `hear` its audio as often as there is some, then `finish`."""

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
        self._model, self._claim = self._resolve_claim()
        self._windows = 0  # charged so far
        self._ended: Answer | None = None
        self._stream: Stream | None = None
        self._decision: RunningDecision | None = None
        learns = isinstance(self._claim, Voiceprint) and shared.learner.learns_from(
            self._model.model_id
        )
        self._digest = sha256() if learns else None

    @property
    def stream(self) -> Stream:
        """What embeds the call's audio."""
        assert self._stream is not None, "asked for if the call needs audio"
        return self._stream

    @property
    def needs_audio(self) -> bool:
        """Whether more audio can change the last answer."""
        return self._ended is None

    async def prepare(self, source: AudioSource) -> None:
        """Reads the groups to search, unless the call is decided without audio."""
        policy = self._request.policy.fill_in(self._model.defaults)
        claim = self._claim
        if isinstance(claim, Decision) and (
            self._screening is None or claim.outcome is Outcome.OPTED_OUT
        ):
            self._ended = Answer(claim)
            return
        self._spend(0)
        if self._screening is not None:
            await self._screening.prepare()
        self._stream = self._shared.models.stream(
            self._model, source, searching=self._screening is not None
        )
        self._decision = RunningDecision(
            self._stream,
            self._model.verifier,
            claim,
            policy,
            continuous=self._request.continuous,
        )

    async def hear(self, audio: bytes) -> Answer | None:
        """Takes the next audio; an answer, if there is a new one that may be sent. Raises
        `AudioError`, `SpeakerLocked`, and `OverLimit` beyond a budget of compared windows."""
        running = self._running
        if self._digest is not None:
            self._digest.update(audio)
        if (decision := await running.hear(audio)) is None:
            return None
        self._charge(self.stream.windows)
        screening, findings = self._screening, NO_FINDINGS
        if screening is not None:
            findings = await screening.search_so_far(running.utterance)
        if self._request.stop_at_decision and self._decided:
            self._ended = Answer(decision, findings)
            return None
        if not await self._attempt.may_answer(decision):
            return None
        return Answer(decision, findings)

    async def finish(self, audio: bytes | None = None) -> Answer:
        """Takes the last audio, if any; the last answer, once its failure is counted and it is
        audited. Raises as `hear`, and `Unavailable` if that cannot be done."""
        answer = self._ended or await self._last_answer(audio)
        decision, findings = answer.decision, answer.findings
        await self._attempt.settle(decision, matches=len(findings.matches))
        metrics.count_decision(decision)
        if findings.identification is not None:
            await audit_identification(
                self._shared.auditor, findings.identification, self._request.group
            )
        if decision.meets_server_policy:
            await self._note_accepted(decision)
        return replace(answer, done=True)

    async def _last_answer(self, audio: bytes | None) -> Answer:
        running = self._running
        if self._digest is not None and audio is not None:
            self._digest.update(audio)
        decision = await running.finish(audio)
        self._charge(running.utterance.windows)
        if self._screening is None:
            return Answer(decision)
        return Answer(decision, await self._screening.finish(running.utterance))

    async def _note_accepted(self, decision: Decision) -> None:
        """A call that the server itself accepts keeps a voice from expiring and, if acceptance was
        answered and the rules allow, improves it; a store that is full or away by now does not take
        the decision back."""
        speaker, shared = self._attempt.speaker, self._shared
        assert speaker is not None, "a voice of the speaker was compared"
        model_id = self._model.model_id
        try:
            at = shared.clock()
            if not speaker.voiceprints[model_id].has_noted_use(at):
                await shared.store.touch(speaker.tenant, speaker.speaker_id, model_id, at=at)
            if self._digest is None or decision.outcome is not Outcome.ACCEPTED:
                return
            running = self._running
            accepted = running.accepted_by_server
            assert accepted is not None, "the decision meets the server's policy"
            digest = self._digest.hexdigest()
            await shared.learner.learn(AcceptedCall(speaker, running.utterance, accepted, digest))
        except Unavailable as error:
            log.warning("an accepted call was not noted: %s", error)

    def _resolve_claim(self) -> tuple[LoadedModel, Voiceprint | Decision | None]:
        models = self._shared.models
        if not self._request.speaker_id:
            return models.current, None
        return models.resolve_claim(self._attempt.speaker)

    @property
    def _running(self) -> RunningDecision:
        assert self._decision is not None, "asked for if the call needs audio"
        return self._decision

    @property
    def _decided(self) -> bool:
        """Whether what the call is about is decided: the claim or, without one, the search."""
        if self._claim is None and self._screening is not None:
            return self._screening.decided
        return self._running.reached

    def _charge(self, windows: int) -> None:
        """Charges the windows since the last answer: at least one, as every answer compares."""
        self._spend(max(1, windows - self._windows))
        self._windows = windows

    def _spend(self, windows: int) -> None:
        compared = self._request.speaker_id if isinstance(self._claim, Voiceprint) else ""
        self._shared.budgets.spend(self._caller, compared, windows)


async def audit_identification(
    auditor: Auditor, identification: Identification, group: str
) -> None:
    """Audits and counts the last decision of a search; to be awaited before it is sent."""
    decision, candidates = identification.decision, identification.candidates
    speaker_id = candidates[0].speaker_id if decision.outcome is Outcome.ACCEPTED else ""
    await auditor.decided(Action.IDENTIFY, decision, speaker_id, group=group)
    metrics.count_identification(decision)
