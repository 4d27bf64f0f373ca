"""`VerificationService`: enrol, verify, embed, compare."""

from collections.abc import AsyncIterator, Callable

from sayso.v1 import verification_pb2 as pb
from sayso.v1 import verification_pb2_grpc

from service.call import Call
from service.decision import Decision, Outcome
from service.embedder import Embedder, Utterance
from service.enrolment import Enroller
from service.errors import InvalidArgument
from service.identification import Identifier
from service.rpc import messages, watchlists
from service.rpc.requests import TENANT, AudioLimits, Context, chunks, opening
from service.store import Speaker, Store
from service.verification import Known, Verifier

MAX_PAIRS = 10_000
_PROGRESS_STEP_S = 1.0


class VerificationRpc(verification_pb2_grpc.VerificationServiceServicer):
    def __init__(
        self,
        *,
        embedder: Embedder,
        store: Store,
        enroller: Enroller,
        verifier: Verifier,
        identifier: Identifier,
        limits: AudioLimits,
        defaults: messages.Defaults,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._embedder = embedder
        self._store = store
        self._enroller = enroller
        self._verifier = verifier
        self._identifier = identifier
        self._limits = limits
        self._defaults = defaults

    async def Enroll(
        self, request_iterator: AsyncIterator[pb.EnrollRequest], context: Context
    ) -> AsyncIterator[pb.EnrollResponse]:
        config: pb.EnrollConfig = await opening(request_iterator)
        request = messages.enrolment_request(config, tenant=TENANT)
        decoder = self._limits.decoder(messages.audio_format(config.audio))
        before = await self._enroller.open(request)
        stream = self._embedder.stream()
        reported_s = 0.0
        async for chunk in chunks(request_iterator, max_bytes=self._limits.max_bytes):
            await stream.push(decoder.push(chunk))
            if stream.quality.net_speech_s >= reported_s + _PROGRESS_STEP_S:
                reported_s = stream.quality.net_speech_s
                progress = self._enroller.progress_at(before.speech_s + reported_s)
                yield pb.EnrollResponse(
                    progress=messages.progress_message(progress),
                    quality=messages.quality_message(stream.quality),
                )
        utterance = await stream.finish(await self._limits.finished(decoder))
        enrolment = await self._enroller.add(request, utterance)
        yield messages.enroll_response(enrolment)

    async def Verify(self, request: pb.VerifyRequest, context: Context) -> pb.VerifyResponse:
        policy = messages.policy(request.policy, self._defaults)
        groups = watchlists.watchlists(request.watchlists)
        fmt = messages.audio_format(request.config)
        speaker = await self._speaker(request.speaker_id, "speaker_id")
        held = self._verifier.claimed(speaker)
        if isinstance(held, Decision) and not groups:
            return pb.VerifyResponse(decision=messages.decision_message(held))
        await self._identifier.prepare(TENANT, groups)
        utterance = await self._embedder.embed(await self._limits.decoded(request.audio, fmt))
        if isinstance(held, Decision):
            decision = held
        else:
            decision = self._verifier.verify(held, utterance, policy)
            await self._used(speaker, utterance, decision)
        matches = await self._identifier.screen(TENANT, groups, utterance, policy)
        return pb.VerifyResponse(
            decision=messages.decision_message(decision),
            watchlist_matches=map(messages.match_message, matches),
        )

    async def StreamingVerify(
        self, request_iterator: AsyncIterator[pb.StreamingVerifyRequest], context: Context
    ) -> AsyncIterator[pb.StreamingVerifyResponse]:
        config: pb.StreamingVerifyConfig = await opening(request_iterator)
        if config.identify_group or not config.speaker_id:
            raise NotImplementedError("a stream verifies one claimed speaker; use Identify")
        policy = messages.policy(config.policy, self._defaults)
        groups = watchlists.watchlists(config.watchlists, field="config.watchlists")
        fmt = messages.audio_format(config.audio)
        decoder = self._limits.call_decoder(fmt)
        speaker = await self._speaker(config.speaker_id, "config.speaker_id")
        held = self._verifier.claimed(speaker)
        if isinstance(held, Decision):
            yield messages.call_response(held, (), done=True)
            return
        await self._identifier.prepare(TENANT, groups)
        call = Call(
            self._embedder.stream(), self._verifier, held, policy, continuous=config.continuous
        )
        async for chunk in chunks(request_iterator, max_bytes=self._limits.call_bytes(fmt)):
            if (heard := await call.hear(decoder.push(chunk))) is None:
                continue
            if config.stop_at_decision and call.decided:
                decision = heard
                break
            matches = await self._identifier.screen(TENANT, groups, call.heard, policy)
            yield messages.call_response(heard, matches, done=False)
        else:
            decision = await call.finish(await self._limits.finished(decoder))
        matches = await self._identifier.screen(TENANT, groups, call.heard, policy)
        await self._used(speaker, call.heard, decision)
        yield messages.call_response(decision, matches, done=True)

    async def Identify(self, request: pb.IdentifyRequest, context: Context) -> pb.IdentifyResponse:
        policy = messages.policy(request.policy, self._defaults)
        group = watchlists.group_name(request.group)
        fmt = messages.audio_format(request.config)
        await self._identifier.prepare(TENANT, [group])
        utterance = await self._embedder.embed(await self._limits.decoded(request.audio, fmt))
        found = await self._identifier.identify(
            TENANT, group, utterance, policy, request.max_candidates or 1
        )
        return watchlists.identify_response(found)

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        fmt = messages.audio_format(request.config)
        utterance = await self._embedder.embed(await self._limits.decoded(request.audio, fmt))
        contract = self._embedder.contract
        return messages.embed_response(
            utterance, model_id=contract.model_id, min_speech_s=contract.min_speech_s
        )

    async def Compare(self, request: pb.CompareRequest, context: Context) -> pb.CompareResponse:
        if len(request.left) * len(request.right) > MAX_PAIRS:
            raise InvalidArgument(f"more than {MAX_PAIRS} pairs; send fewer", field="left")
        left = [self._known(given, f"left[{i}]") for i, given in enumerate(request.left)]
        right = [self._known(given, f"right[{i}]") for i, given in enumerate(request.right)]
        compared = (self._verifier.compare(one, other) for one in left for other in right)
        return pb.CompareResponse(
            comparisons=map(messages.comparison_message, compared),
            model_id=self._embedder.contract.model_id,
        )

    async def _speaker(self, speaker_id: str, field: str) -> Speaker | None:
        return await self._store.get(TENANT, messages.speaker_id(speaker_id, field=field))

    async def _used(self, speaker: Speaker | None, heard: Utterance, decision: Decision) -> None:
        """An accepted call keeps a voice from expiring and, where the rules allow, improves it."""
        if speaker is None or decision.outcome is not Outcome.ACCEPTED:
            return
        await self._store.touch(TENANT, speaker.speaker_id, decision.model_id, at=self._clock())
        await self._enroller.adapt(speaker, heard, decision)

    def _known(self, given: pb.Embedding, field: str) -> Known:
        return self._verifier.known(
            given.values,
            model_id=given.model_id,
            speech_s=given.net_speech_s or None,
            snr_db=given.snr_db if given.HasField("snr_db") else None,
            field=field,
        )
