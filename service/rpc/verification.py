"""`VerificationService`: enrol, verify, embed, compare."""

from collections.abc import AsyncIterator

from sayso.v1 import verification_pb2 as pb
from sayso.v1 import verification_pb2_grpc

from service.decision import Decision, Policy
from service.embedder import Embedder
from service.enrolment import Enroller
from service.errors import InvalidArgument
from service.rpc import messages
from service.rpc.requests import TENANT, AudioLimits, Context, chunks, opening
from service.store import Store
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
        limits: AudioLimits,
        policy: Policy,
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._enroller = enroller
        self._verifier = verifier
        self._limits = limits
        self._policy = policy

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
        if request.watchlists:
            raise NotImplementedError("watchlists are not served yet; leave them out")
        decision = await self._decision(request)
        return pb.VerifyResponse(decision=messages.decision_message(decision))

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

    async def _decision(self, request: pb.VerifyRequest) -> Decision:
        floor_s = self._embedder.contract.min_speech_s
        policy = messages.policy(request.policy, self._policy, floor_s=floor_s)
        fmt = messages.audio_format(request.config)
        speaker = await self._store.get(TENANT, messages.speaker_id(request.speaker_id))
        held = self._verifier.claimed(speaker)
        if isinstance(held, Decision):
            return held
        samples = await self._limits.decoded(request.audio, fmt)
        return self._verifier.verify(held, await self._embedder.embed(samples), policy)

    def _known(self, given: pb.Embedding, field: str) -> Known:
        return self._verifier.known(
            given.values,
            model_id=given.model_id,
            speech_s=given.net_speech_s or None,
            snr_db=given.snr_db if given.HasField("snr_db") else None,
            field=field,
        )
