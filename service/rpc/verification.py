"""`VerificationService`: enroll, verify, identify, embed, compare."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

from sayso.v1 import verification_pb2 as pb
from sayso.v1 import verification_pb2_grpc

from service.access import current
from service.access.limits import ComparisonBudgets, TenantLimits
from service.audio.formats import AudioFormat
from service.audio.quality import Quality
from service.audit import Action, Auditor
from service.calls.identification import Identifier, check_candidates
from service.calls.live import LiveVerifications, VerificationRequest, audit_identification
from service.calls.models import LoadedModel, LoadedModels
from service.calls.verification import ProbeEmbedding
from service.decisions.match import Match
from service.decisions.named_policies import NamedPolicies, NamedPolicy
from service.decisions.stamp import DecisionStamper
from service.errors import InvalidArgument
from service.events import Event, EventType, Publish, publish_nothing
from service.inference.embedder import Utterance
from service.observability import metrics
from service.rpc import groups, messages
from service.rpc.batches import Batch, Turn
from service.rpc.requests import (
    AudioLimits,
    Context,
    get_tenant,
    read_blocks,
    read_config,
    sees_scores,
)
from service.speakers.enrollment import Enroller, Enrollment, EnrollmentRequest, Progress
from service.store import Store

MAX_PAIRS = 1000
_PROGRESS_STEP_S = 1.0


class VerificationRpc(verification_pb2_grpc.VerificationServiceServicer):
    def __init__(
        self,
        *,
        live: LiveVerifications,
        models: LoadedModels,
        store: Store,
        enroller: Enroller,
        identifier: Identifier,
        limits: AudioLimits,
        batch_items: int,
        auditor: Auditor,
        allowed: TenantLimits,
        budgets: ComparisonBudgets,
        policies: NamedPolicies,
        publish: Publish = publish_nothing,
    ) -> None:
        self._live = live
        self._models = models
        self._store = store
        self._enroller = enroller
        self._identifier = identifier
        self._limits = limits
        self._batch_items = batch_items
        self._auditor = auditor
        self._allowed = allowed
        self._budgets = budgets
        self._policies = policies
        self._publish = publish

    async def Enroll(self, request: pb.EnrollRequest, context: Context) -> pb.EnrollResponse:
        return await self._enroll(request)

    async def StreamingEnroll(
        self, request_iterator: AsyncIterator[pb.StreamingEnrollRequest], context: Context
    ) -> AsyncIterator[pb.StreamingEnrollResponse]:
        config: pb.EnrollConfig = await read_config(request_iterator)
        request = _parse_enrollment_request(config)
        source = self._limits.open_recording(messages.parse_audio_format(config.audio_config))
        watchlists = groups.parse_watchlists(config.watchlists, field="config.watchlists")
        before = await self._open(request, watchlists)
        stream = self._models.open_stream(
            self._models.current, source, searching=True, enrolling=True
        )
        reported_s = 0.0
        async for block in read_blocks(request_iterator, stream, max_bytes=self._limits.max_bytes):
            await stream.push(block)
            if config.stop_when_complete and self._enroller.would_complete(before, stream.quality):
                break
            if stream.quality.net_speech_s >= reported_s + _PROGRESS_STEP_S:
                reported_s = stream.quality.net_speech_s
                yield _build_progress(
                    self._enroller.voices.measure_speech(before.speech_s + reported_s),
                    stream.quality,
                )
        result = await self._add(request, watchlists, before, await stream.finish())
        yield pb.StreamingEnrollResponse(
            progress=result.progress, quality=result.quality, result=result
        )

    async def BatchEnroll(
        self, request_iterator: AsyncIterator[pb.BatchEnrollRequest], context: Context
    ) -> AsyncIterator[pb.BatchEnrollResponse]:
        batch = Batch(self._enroll_item, at_once=self._batch_items)
        async for answer in batch.enroll_all(request_iterator):
            yield answer

    async def Verify(self, request: pb.VerifyRequest, context: Context) -> pb.VerifyResponse:
        source = self._limits.open_recording(messages.parse_audio_format(request.audio_config))
        named = self._policies.get(request.policy_name)
        async with self._live.begin(_parse_recording_request(request, named), source) as call:
            answer = await call.finish(self._limits.check_size(request.audio))
            return messages.build_verify_response(answer, scores=sees_scores())

    async def StreamingVerify(
        self, request_iterator: AsyncIterator[pb.StreamingVerifyRequest], context: Context
    ) -> AsyncIterator[pb.StreamingVerifyResponse]:
        config: pb.StreamingVerifyConfig = await read_config(request_iterator)
        fmt = messages.parse_audio_format(config.audio_config)
        source, max_bytes = self._limits.open_call(fmt), self._limits.max_call_bytes(fmt)
        named = self._policies.get(config.policy_name)
        async with self._live.begin(_parse_call_request(config, named), source) as call:
            if call.needs_audio:
                async for block in read_blocks(request_iterator, call.stream, max_bytes=max_bytes):
                    answer = await call.hear(block)
                    if not call.needs_audio:
                        break
                    if answer is not None:
                        yield messages.build_call_response(answer, scores=sees_scores())
            yield messages.build_call_response(await call.finish(), scores=sees_scores())

    async def Identify(self, request: pb.IdentifyRequest, context: Context) -> pb.IdentifyResponse:
        named = self._policies.get(request.policy_name)
        policy = messages.parse_policy(request.policy, looser=sees_scores(), named=named)
        group = groups.parse_group_name(request.group_name)
        fmt = messages.parse_audio_format(request.audio_config)
        self._spend(0)
        await self._identifier.prepare(get_tenant(), [group])
        utterance = await self._embed(request.audio, fmt)
        self._spend(utterance.windows)
        identification = await self._identifier.identify(
            *(get_tenant(), group, utterance, policy.fill_in(self._models.current.defaults)),
            request.max_candidates or 1,
        )
        identification = identification.stamp(DecisionStamper())
        await audit_identification(self._auditor, identification, group)
        return messages.build_identify_response(identification, scores=sees_scores())

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        fmt = messages.parse_audio_format(request.audio_config)
        embedder = self._models.current.embedder
        stream, contract = embedder.open_stream(self._limits.open_recording(fmt)), embedder.contract
        utterance = await stream.finish(self._limits.check_size(request.audio))
        return messages.build_embed_response(
            utterance, model_id=contract.model_id, min_speech_s=contract.min_speech_s
        )

    async def Compare(self, request: pb.CompareRequest, context: Context) -> pb.CompareResponse:
        pairs = len(request.left) * len(request.right)
        if not 1 <= pairs <= MAX_PAIRS:
            raise InvalidArgument(
                f"{pairs} pairs; send 1 to {MAX_PAIRS}, of at least one on either side",
                field="left",
            )
        self._spend(pairs)
        model = self._models.select(request.left[0].model_id)
        return await asyncio.to_thread(_compare_all, model, request)

    async def _enroll_item(self, item: pb.BatchEnrollRequest, turn: Turn) -> pb.EnrollResponse:
        self._allowed.charge_request(get_tenant())
        return await self._enroll(item.enrollment, turn)

    async def _enroll(
        self, message: pb.EnrollRequest, wait_for_turn: Turn | None = None
    ) -> pb.EnrollResponse:
        """Enrolls a whole recording; what is added to the speaker waits for its turn, if any."""
        config = message.config
        request = _parse_enrollment_request(config)
        watchlists = groups.parse_watchlists(config.watchlists, field="config.watchlists")
        fmt = messages.parse_audio_format(config.audio_config)
        before = await self._open(request, watchlists)
        utterance = await self._embed(message.audio, fmt, enrolling=True)
        if wait_for_turn is not None:
            await wait_for_turn()
        return await self._add(request, watchlists, before, utterance)

    async def _add(
        self,
        request: EnrollmentRequest,
        watchlists: Sequence[str],
        before: Progress,
        utterance: Utterance,
    ) -> pb.EnrollResponse:
        """Screens, then enrolls, so that nothing is stored if the groups cannot be searched."""
        matches: tuple[Match, ...] = ()
        if watchlists:
            matches = await self._identifier.screen(get_tenant(), watchlists, utterance)
        async with self._auditor.record_change(Action.ENROL, request.speaker_id) as change:
            enrollment = await self._enroller.add(request, utterance)
            change.set_outcome(
                "STORED" if enrollment.speaker else "REFUSED",
                (reason.name for reason in enrollment.reasons),
                model_id=self._models.current.model_id,
            )
        await self._publish_enrollment(before, enrollment, matches)
        metrics.count_enrollment(enrollment.speaker, enrollment.reasons, enrollment.quality)
        return messages.build_enroll_response(enrollment, matches, scores=sees_scores())

    async def _publish_enrollment(
        self, before: Progress, enrollment: Enrollment, matches: tuple[Match, ...]
    ) -> None:
        """Publish that a voice has just become complete, and what it matches on watchlists."""
        speaker, origin = enrollment.speaker, self._auditor.origin()
        if speaker is None:
            return
        kinds = []
        if before.needed_s > 0 and enrollment.progress.needed_s == 0:
            kinds.append(EventType.ENROLLMENT_COMPLETED)
        if matches:
            kinds.append(EventType.WATCHLIST_MATCHED)
        events = [
            Event(kind, speaker.speaker_id, origin.request_id, matches=matches) for kind in kinds
        ]
        await self._publish(origin.tenant, *events)

    async def _open(self, request: EnrollmentRequest, watchlists: Sequence[str]) -> Progress:
        """Return what an enrollment starts from; raises `OverLimit` if the tenant is full."""
        await self._allowed.check_enrollment(self._store, request.tenant, request.speaker_id)
        progress = await self._enroller.open(request)
        await self._identifier.prepare(get_tenant(), watchlists)
        return progress

    async def _embed(self, audio: bytes, fmt: AudioFormat, *, enrolling: bool = False) -> Utterance:
        """Embeds a whole recording with every loaded model."""
        models, source = self._models, self._limits.open_recording(fmt)
        stream = models.open_stream(models.current, source, searching=True, enrolling=enrolling)
        return await stream.finish(self._limits.check_size(audio))

    def _spend(self, windows: int) -> None:
        """Spends the caller's comparison budget, for no speaker in particular."""
        self._budgets.spend(current(), "", windows)


def _build_progress(progress: Progress, quality: Quality) -> pb.StreamingEnrollResponse:
    return pb.StreamingEnrollResponse(
        progress=messages.build_progress(progress), quality=messages.build_quality(quality)
    )


def _parse_recording_request(
    request: pb.VerifyRequest, named: NamedPolicy | None
) -> VerificationRequest:
    return VerificationRequest(
        messages.parse_speaker_id(request.speaker_id),
        messages.parse_policy(request.policy, looser=sees_scores(), named=named),
        watchlists=groups.parse_watchlists(_add_watchlists(request.watchlists, named)),
        alternatives=messages.parse_alternatives(
            request.alternative_speaker_ids, request.speaker_id, field="alternative_speaker_ids"
        ),
    )


def _add_watchlists(names: Iterable[str], named: NamedPolicy | None) -> Iterable[str]:
    """Add the watchlists of the named policy, if any, to those of the request."""
    return names if named is None else (*names, *named.watchlists)


def _parse_call_request(
    config: pb.StreamingVerifyConfig, named: NamedPolicy | None
) -> VerificationRequest:
    """Parse the config of a call; without a claimed speaker it must name groups to search."""
    watchlists = _add_watchlists(config.watchlists, named)
    names = groups.parse_watchlists(watchlists, field="config.watchlists")
    group, claimed = config.identify_group_name, config.speaker_id
    return VerificationRequest(
        messages.parse_speaker_id(claimed, field="config.speaker_id")
        if claimed or config.alternative_speaker_ids or not (names or group)
        else "",
        messages.parse_policy(config.policy, looser=sees_scores(), named=named),
        watchlists=names,
        group=group and groups.parse_group_name(group, field="config.identify_group_name"),
        max_candidates=check_candidates(config.max_candidates or 1, field="config.max_candidates"),
        continuous=config.continuous,
        stop_at_decision=config.stop_at_decision,
        alternatives=messages.parse_alternatives(
            config.alternative_speaker_ids, claimed, field="config.alternative_speaker_ids"
        ),
    )


def _parse_enrollment_request(config: pb.EnrollConfig) -> EnrollmentRequest:
    return messages.parse_enrollment_request(
        config, tenant=get_tenant(), credential=current().credential
    )


def _compare_all(model: LoadedModel, request: pb.CompareRequest) -> pb.CompareResponse:
    left = [
        _parse_probe(model, embedding, f"left[{i}]") for i, embedding in enumerate(request.left)
    ]
    right = [
        _parse_probe(model, embedding, f"right[{i}]") for i, embedding in enumerate(request.right)
    ]
    compared = model.verifier.compare_all(left, right)
    return pb.CompareResponse(
        comparisons=map(messages.build_comparison, compared), model_id=model.model_id
    )


def _parse_probe(model: LoadedModel, embedding: pb.Embedding, field: str) -> ProbeEmbedding:
    return model.verifier.parse_probe(
        embedding.values,
        model_id=embedding.model_id,
        speech_s=embedding.net_speech_s or None,
        snr_db=embedding.snr_db if embedding.HasField("snr_db") else None,
        field=field,
    )
