"""`VerificationService`: enrol, verify, embed, compare."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial

from sayso.v1 import decision_pb2, verification_pb2_grpc
from sayso.v1 import verification_pb2 as pb

from service.access import current
from service.access.limits import ComparisonBudgets, TenantLimits
from service.audio.decoding import AudioFormat
from service.audit import Action, Auditor
from service.calls.call import Call
from service.calls.identification import Identification, Identifier
from service.calls.screening import Findings, Screening
from service.calls.upgrade import Mover, Space, Spaces
from service.calls.verification import Known
from service.decisions.decision import Decision, Outcome, Policy
from service.errors import InvalidArgument, Unavailable
from service.inference.embedder import Utterance
from service.observability import metrics
from service.rpc import messages, watchlists
from service.rpc.batches import Batch, Turn
from service.rpc.requests import AudioLimits, Context, blocks, opening, sees_scores, tenant
from service.speakers.attempts import Attempt, Attempts
from service.speakers.enrollment import Enroller, EnrolmentRequest, Progress
from service.store import Speaker, Store, Voiceprint

log = logging.getLogger(__name__)

MAX_PAIRS = 1000
_PROGRESS_STEP_S = 1.0


class VerificationRpc(verification_pb2_grpc.VerificationServiceServicer):
    def __init__(
        self,
        *,
        spaces: Spaces,
        store: Store,
        enroller: Enroller,
        mover: Mover,
        identifier: Identifier,
        limits: AudioLimits,
        defaults: Mapping[str, messages.Defaults],
        clock: Callable[[], float],
        batch_items: int,
        attempts: Attempts,
        auditor: Auditor,
        allowed: TenantLimits,
        budgets: ComparisonBudgets,
    ) -> None:
        self._budgets = budgets
        self._attempts = attempts
        self._auditor = auditor
        self._allowed = allowed
        self._batch_items = batch_items
        self._clock = clock
        self._spaces = spaces
        self._current = spaces.current
        self._store = store
        self._enroller = enroller
        self._mover = mover
        self._identifier = identifier
        self._limits = limits
        self._defaults = defaults

    async def Enroll(
        self, request_iterator: AsyncIterator[pb.EnrollRequest], context: Context
    ) -> AsyncIterator[pb.EnrollResponse]:
        config: pb.EnrollConfig = await opening(request_iterator)
        request = _enrolment_request(config)
        source = self._limits.recording(messages.audio_format(config.audio))
        groups = watchlists.watchlists(config.watchlists, field="config.watchlists")
        before = await self._opened(request)
        await self._identifier.prepare(tenant(), groups)
        stream = self._spaces.stream(self._current, source, searching=True, enrolling=True)
        reported_s = 0.0
        async for block in blocks(request_iterator, stream, max_bytes=self._limits.max_bytes):
            await stream.push(block)
            if config.stop_when_complete and self._enroller.enough(before, stream.quality):
                break
            if stream.quality.net_speech_s >= reported_s + _PROGRESS_STEP_S:
                reported_s = stream.quality.net_speech_s
                progress = self._enroller.progress_at(before.speech_s + reported_s)
                yield pb.EnrollResponse(
                    progress=messages.progress_message(progress),
                    quality=messages.quality_message(stream.quality),
                )
        utterance = await stream.finish()
        yield await self._enrolled(request, groups, utterance)

    async def BatchEnroll(
        self, request_iterator: AsyncIterator[pb.BatchEnrollRequest], context: Context
    ) -> AsyncIterator[pb.BatchEnrollResponse]:
        batch = Batch(self._item, at_once=self._batch_items)
        async for answer in batch.answers(request_iterator):
            yield answer

    async def Verify(self, request: pb.VerifyRequest, context: Context) -> pb.VerifyResponse:
        groups = watchlists.watchlists(request.watchlists)
        source = self._limits.recording(messages.audio_format(request.config))
        speaker_id = messages.speaker_id(request.speaker_id)
        async with self._attempts.open(speaker_id) as attempt:
            speaker = await self._store.get(tenant(), speaker_id)
            space, held = self._spaces.claimed(speaker)
            policy = self._policy(request.policy, space)
            if isinstance(held, Decision) and (not groups or held.outcome is Outcome.OPTED_OUT):
                await _settled(attempt, held)
                return messages.verify_response(held, scores=sees_scores())
            compared = "" if isinstance(held, Decision) else speaker_id
            self._spend(compared, 0)
            await self._identifier.prepare(tenant(), groups)
            stream = self._spaces.stream(space, source, searching=bool(groups))
            utterance = await self._limits.embed(stream, request.audio)
            self._spend(compared, utterance.windows)
            if isinstance(held, Decision):
                decision = held
            else:
                decision = space.verifier.verify(held, utterance, policy)
            matches = await self._identifier.screen(tenant(), groups, utterance)
            await _settled(attempt, decision, matches=len(matches))
            await self._used(
                *(space, speaker, utterance, decision),
                lambda: hashlib.sha256(request.audio).hexdigest(),
            )
            return messages.verify_response(decision, matches, scores=sees_scores())

    async def StreamingVerify(
        self, request_iterator: AsyncIterator[pb.StreamingVerifyRequest], context: Context
    ) -> AsyncIterator[pb.StreamingVerifyResponse]:
        config: pb.StreamingVerifyConfig = await opening(request_iterator)
        fmt = messages.audio_format(config.audio)
        source = self._limits.call(fmt)
        screening = self._screening(config)
        speaker, held, space, speaker_id = None, None, self._current, ""
        if config.speaker_id or not screening.asked:
            speaker_id = messages.speaker_id(config.speaker_id, field="config.speaker_id")
        async with self._attempts.open(speaker_id) as attempt:
            if speaker_id:
                speaker = await self._store.get(tenant(), speaker_id)
                space, held = self._spaces.claimed(speaker)
            policy = self._policy(config.policy, space)
            if isinstance(held, Decision) and (
                not screening.asked or held.outcome is Outcome.OPTED_OUT
            ):
                await _settled(attempt, held)
                yield messages.call_response(held, Findings(), done=True, scores=sees_scores())
                return
            compared = speaker_id if isinstance(held, Voiceprint) else ""
            self._spend(compared, 0)
            windows = 0
            await screening.prepare()
            stream = self._spaces.stream(space, source, searching=screening.asked)
            call = Call(stream, space.verifier, held, policy, continuous=config.continuous)
            ending = screening if held is None else call
            digest = hashlib.sha256()
            max_bytes = self._limits.call_bytes(fmt)
            async for block in blocks(request_iterator, stream, max_bytes=max_bytes):
                digest.update(block)
                if (decision := await call.hear(block)) is None:
                    continue
                self._spend(compared, max(1, stream.windows - windows))
                windows = stream.windows
                findings = await screening.so_far(call.heard)
                if config.stop_at_decision and ending.decided:
                    break
                if await attempt.tell(decision):
                    yield messages.call_response(
                        decision, findings, done=False, scores=sees_scores()
                    )
            else:
                decision = await call.finish()
                self._spend(compared, max(1, call.heard.windows - windows))
                findings = await screening.finish(call.heard)
            await _settled(attempt, decision, matches=len(findings.matches))
            if findings.identification is not None:
                await self._identified(findings.identification, config.identify_group)
            await self._used(space, speaker, call.heard, decision, digest.hexdigest)
            yield messages.call_response(decision, findings, done=True, scores=sees_scores())

    async def Identify(self, request: pb.IdentifyRequest, context: Context) -> pb.IdentifyResponse:
        policy = self._policy(request.policy)
        group = watchlists.group_name(request.group)
        fmt = messages.audio_format(request.config)
        self._spend("", 0)
        await self._identifier.prepare(tenant(), [group])
        utterance = await self._heard(request.audio, fmt)
        self._spend("", utterance.windows)
        found = await self._identifier.identify(
            tenant(), group, utterance, policy, request.max_candidates or 1
        )
        await self._identified(found, group)
        return messages.identify_response(found, scores=sees_scores())

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        fmt = messages.audio_format(request.config)
        embedder = self._current.embedder
        stream = embedder.stream(self._limits.recording(fmt))
        utterance = await self._limits.embed(stream, request.audio)
        contract = embedder.contract
        return messages.embed_response(
            utterance, model_id=contract.model_id, min_speech_s=contract.min_speech_s
        )

    async def Compare(self, request: pb.CompareRequest, context: Context) -> pb.CompareResponse:
        pairs = len(request.left) * len(request.right)
        if not 1 <= pairs <= MAX_PAIRS:
            raise InvalidArgument(
                f"{pairs} pairs; send 1 to {MAX_PAIRS}, of at least one on either side",
                field="left",
            )
        self._spend("", pairs)
        space = self._spaces.of(request.left[0].model_id)
        return await asyncio.to_thread(_comparisons, space, request)

    async def _item(self, item: pb.BatchEnrollRequest, turn: Turn) -> pb.EnrollResponse:
        request = _enrolment_request(item.config)
        groups = watchlists.watchlists(item.config.watchlists, field="config.watchlists")
        fmt = messages.audio_format(item.config.audio)
        self._allowed.request(tenant())
        await self._opened(request)
        await self._identifier.prepare(tenant(), groups)
        utterance = await self._heard(item.audio, fmt, enrolling=True)
        await turn()
        return await self._enrolled(request, groups, utterance)

    async def _enrolled(
        self, request: EnrolmentRequest, groups: Sequence[str], utterance: Utterance
    ) -> pb.EnrollResponse:
        """Screened first, so that nothing is stored where that cannot be done."""
        matches = await self._identifier.screen(tenant(), groups, utterance)
        async with self._auditor.changing(Action.ENROL, request.speaker_id) as change:
            made = await self._enroller.add(request, utterance)
            change.came_to(
                "STORED" if made.speaker else "REFUSED",
                (reason.name for reason in made.reasons),
                model_id=self._current.model_id,
            )
        metrics.count_enrollment(made.speaker, made.reasons, made.quality)
        return messages.enroll_response(made, matches, scores=sees_scores())

    async def _opened(self, request: EnrolmentRequest) -> Progress:
        """What an enrolment starts from, where there is room for one more speaker."""
        await self._allowed.enrolment(self._store, request.tenant, request.speaker_id)
        return await self._enroller.open(request)

    async def _heard(self, audio: bytes, fmt: AudioFormat, *, enrolling: bool = False) -> Utterance:
        """A whole recording in every space."""
        source = self._limits.recording(fmt)
        stream = self._spaces.stream(self._current, source, searching=True, enrolling=enrolling)
        return await self._limits.embed(stream, audio)

    def _policy(self, given: decision_pb2.DecisionPolicy, space: Space | None = None) -> Policy:
        """The request's over what the server has for a model."""
        model_id = (space or self._current).model_id
        return messages.policy(given, self._defaults[model_id], looser=sees_scores())

    def _spend(self, speaker_id: str, windows: int) -> None:
        self._budgets.spend(current(), speaker_id, windows)

    def _screening(self, config: pb.StreamingVerifyConfig) -> Screening:
        group = config.identify_group
        return Screening(
            self._identifier,
            tenant(),
            self._policy(config.policy),
            watchlists=watchlists.watchlists(config.watchlists, field="config.watchlists"),
            group=group and watchlists.group_name(group, field="config.identify_group"),
            max_candidates=config.max_candidates or 1,
        )

    async def _identified(self, found: Identification, group: str) -> None:
        accepted = found.decision.outcome is Outcome.ACCEPTED
        who = found.candidates[0].speaker_id if accepted else ""
        await self._auditor.decided(Action.IDENTIFY, found.decision, who, group=group)
        metrics.identified(found.decision)

    async def _used(
        self,
        space: Space,
        speaker: Speaker | None,
        heard: Utterance,
        decision: Decision,
        digest: Callable[[], str],
    ) -> None:
        """A call that the server itself would accept keeps a voice from expiring and, where the
        rules allow and acceptance was told, improves it; that a store is full or away by now does
        not take the decision back."""
        if speaker is None or not decision.meets_server_policy:
            return
        model_id = space.model_id
        voiceprint = speaker.voiceprints[model_id]
        own = space.verifier.judge(voiceprint, heard)
        try:
            at = self._clock()
            if not voiceprint.noted(at):
                await self._store.touch(tenant(), speaker.speaker_id, model_id, at=at)
            if decision.outcome is not Outcome.ACCEPTED:
                return
            if self._enroller.adapts(heard, own):
                adapted = partial(self._enroller.adapt, speaker, heard, own, digest())
                await self._improved(Action.ADAPT, speaker, adapted)
            if self._mover.moves(speaker, heard, own):
                moved = partial(self._mover.move, speaker, heard, own)
                await self._improved(Action.MOVE, speaker, moved)
        except Unavailable as error:
            log.warning("an accepted call was not noted: %s", error)

    async def _improved(
        self, action: Action, speaker: Speaker, improve: Callable[[], Awaitable[Speaker | None]]
    ) -> None:
        async with self._auditor.changing(action, speaker.speaker_id) as entry:
            stored = await improve() is not None
            outcome = "STORED" if stored else "REFUSED"
            entry.came_to(outcome, model_id=self._current.model_id)


async def _settled(attempt: Attempt, decision: Decision, **detail: int) -> None:
    """Before the last decision of a call is told."""
    await attempt.settle(decision, **detail)
    metrics.decided(decision)


def _enrolment_request(config: pb.EnrollConfig) -> EnrolmentRequest:
    return messages.enrolment_request(config, tenant=tenant(), credential=current().credential)


def _comparisons(space: Space, request: pb.CompareRequest) -> pb.CompareResponse:
    left = [_known(space, each, f"left[{i}]") for i, each in enumerate(request.left)]
    right = [_known(space, each, f"right[{i}]") for i, each in enumerate(request.right)]
    compared = space.verifier.compare_all(left, right)
    return pb.CompareResponse(
        comparisons=map(messages.comparison_message, compared), model_id=space.model_id
    )


def _known(space: Space, given: pb.Embedding, field: str) -> Known:
    return space.verifier.known(
        given.values,
        model_id=given.model_id,
        speech_s=given.net_speech_s or None,
        snr_db=given.snr_db if given.HasField("snr_db") else None,
        field=field,
    )
