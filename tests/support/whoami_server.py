"""A real server, in a thread of this process, that answers every call with who made it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from sayso.v1 import (
    decision_pb2,
    speaker_pb2,
    speaker_pb2_grpc,
    verification_pb2,
    verification_pb2_grpc,
)

from service.access import Authenticator, Role, current, identify_caller
from service.rpc.interceptors import GuardInterceptor


class _Speakers(speaker_pb2_grpc.SpeakerServiceServicer):
    async def GetSpeaker(
        self, request: speaker_pb2.GetSpeakerRequest, context: Any
    ) -> speaker_pb2.GetSpeakerResponse:
        caller = current()
        known = {
            "tenant": caller.tenant,
            "roles": " ".join(role for role in Role if role in caller.roles),
            "credential": caller.credential,
        }
        return speaker_pb2.GetSpeakerResponse(speaker=speaker_pb2.Speaker(metadata=known))

    async def DeleteSpeaker(
        self, request: speaker_pb2.DeleteSpeakerRequest, context: Any
    ) -> speaker_pb2.DeleteSpeakerResponse:
        return speaker_pb2.DeleteSpeakerResponse()


class _Voices(verification_pb2_grpc.VerificationServiceServicer):
    async def StreamingVerify(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[verification_pb2.StreamingVerifyResponse]:
        async for _ in request_iterator:
            yield verification_pb2.StreamingVerifyResponse(
                decision=decision_pb2.Decision(explanation=current().tenant)
            )


class WhoamiServer:
    """Guarded as the server is: health is open, every other call is identify_caller."""

    def __init__(
        self,
        authenticator: Authenticator | None = None,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._credentials = credentials
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.address = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self.address = self._run(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._server.stop(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, doing: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(timeout=30)

    async def _start(self) -> str:
        guard = identify_caller(self._authenticator)
        self._server = grpc.aio.server(
            interceptors=[GuardInterceptor(watching=(), admitting=(guard,))]
        )
        speaker_pb2_grpc.add_SpeakerServiceServicer_to_server(_Speakers(), self._server)
        verification_pb2_grpc.add_VerificationServiceServicer_to_server(_Voices(), self._server)
        statuses = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(statuses, self._server)
        await statuses.set("", health_pb2.HealthCheckResponse.SERVING)
        port = (
            self._server.add_insecure_port("127.0.0.1:0")
            if self._credentials is None
            else self._server.add_secure_port("127.0.0.1:0", self._credentials)
        )
        await self._server.start()
        return f"127.0.0.1:{port}"
