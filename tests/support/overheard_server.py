"""A real server, in a thread of this process, that notes what callers send and how they leave."""

import asyncio
import threading
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import grpc
from sayso.v1 import (
    decision_pb2,
    speaker_pb2,
    speaker_pb2_grpc,
    verification_pb2,
    verification_pb2_grpc,
)

REFUSED = "refused"
"""The speaker whose verification fails with the status that `refuse` is given."""

BRIEF = "brief"
"""The speaker whose verification is over with the first message of audio."""

_END_S = 10.0
_CANCELLATION_S = 0.1  # requests may end like half-closed ones just before gRPC cancels the call


class OverheardServer:
    """`endings` has how each stream was ended by its caller, once it was: half-closed or cancelled.

    Streams answer every message of audio, and once more when they are half-closed. `GetSpeaker`
    fails with the status that `refuse` is given. `request_ids` are those of all calls.
    """

    def __init__(self) -> None:
        self.address = ""
        self.request_ids: list[str] = []
        self.audio: list[bytes] = []
        self._endings: list[str] = []
        self._ended = threading.Condition()
        self._refusal: tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def refuse(self, code: grpc.StatusCode, text: str, details: bytes = b"") -> None:
        self._refusal = (code, text, (("grpc-status-details-bin", details),) if details else ())

    def wait_for_ending(self) -> str:
        """How the latest stream ended, when it has."""
        with self._ended:
            assert self._ended.wait_for(lambda: self._endings, _END_S), "the stream goes on"
            return self._endings.pop()

    def note_ending(self, ending: str) -> None:
        with self._ended:
            self._endings.append(ending)
            self._ended.notify_all()

    def note_call(self, context: Any) -> None:
        sent = dict(context.invocation_metadata())
        self.request_ids.append(sent["x-request-id"])

    async def abort(self, context: Any) -> None:
        assert self._refusal is not None
        code, text, details = self._refusal
        await context.abort(code, text, details)

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
        self._server = grpc.aio.server()
        verification_pb2_grpc.add_VerificationServiceServicer_to_server(_Voices(self), self._server)
        speaker_pb2_grpc.add_SpeakerServiceServicer_to_server(_Speakers(self), self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return f"127.0.0.1:{port}"


class _Speakers(speaker_pb2_grpc.SpeakerServiceServicer):
    def __init__(self, server: OverheardServer) -> None:
        self._server = server

    async def GetSpeaker(self, request: speaker_pb2.GetSpeakerRequest, context: Any) -> Any:
        self._server.note_call(context)
        await self._server.abort(context)


class _Voices(verification_pb2_grpc.VerificationServiceServicer):
    def __init__(self, server: OverheardServer) -> None:
        self._server = server

    async def StreamingVerify(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        async for number in self._count(request_iterator, context):
            decision = decision_pb2.Decision(explanation=str(number))
            yield verification_pb2.StreamingVerifyResponse(decision=decision)

    async def StreamingEnroll(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        async for number in self._count(request_iterator, context):
            result = verification_pb2.EnrollResponse(explanation=str(number))
            yield verification_pb2.StreamingEnrollResponse(result=result)

    async def _count(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[int]:
        """The number of each message of audio and, when they end, of the next."""
        self._server.note_call(context)
        number, speaker_id = 0, ""
        try:
            async for request in requests:
                speaker_id = request.config.speaker_id or speaker_id
                if speaker_id == REFUSED:
                    await self._server.abort(context)
                if request.audio:
                    self._server.audio.append(request.audio)
                    yield number
                    number += 1
                    if speaker_id == BRIEF:
                        return
            await asyncio.sleep(_CANCELLATION_S)
        except (asyncio.CancelledError, GeneratorExit, grpc.aio.BaseError):
            self._server.note_ending("cancelled")
            raise
        self._server.note_ending("half-closed")
        yield number
