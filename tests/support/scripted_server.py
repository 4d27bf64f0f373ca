"""A real gRPC server with one voice method of each kind, answered as a test says."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from sayso.v1 import verification_pb2 as pb
from sayso.v1 import verification_pb2_grpc

Stub = verification_pb2_grpc.VerificationServiceStub


async def do_nothing() -> None:
    pass


class ScriptedService(verification_pb2_grpc.VerificationServiceServicer):
    """Awaits `act` in every call; then `Verify` answers once, `Enroll` for every request."""

    def __init__(self, act: Callable[[], Awaitable[None]] = do_nothing) -> None:
        self.act = act

    async def Verify(self, request: pb.VerifyRequest, context: Any) -> pb.VerifyResponse:
        await self.act()
        return pb.VerifyResponse()

    async def StreamingEnroll(
        self, request_iterator: AsyncIterator[pb.StreamingEnrollRequest], context: Any
    ) -> AsyncIterator[pb.StreamingEnrollResponse]:
        async for _ in request_iterator:
            await self.act()
            yield pb.StreamingEnrollResponse()


@asynccontextmanager
async def open_channel(
    servicer: ScriptedService, *interceptors: grpc.aio.ServerInterceptor
) -> AsyncIterator[grpc.aio.Channel]:
    """A client's channel to the server."""
    server = grpc.aio.server(interceptors=interceptors)
    verification_pb2_grpc.add_VerificationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


@asynccontextmanager
async def open_stub(
    servicer: ScriptedService, *interceptors: grpc.aio.ServerInterceptor
) -> AsyncIterator[Any]:
    """A client's stub to the server."""
    async with open_channel(servicer, *interceptors) as channel:
        yield Stub(channel)
