"""Messages that arrive slowly, or are large: their own tenant waits for them, others do not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from sayso.v1 import verification_pb2 as pb

from service.rpc.interceptors import GuardInterceptor
from service.rpc.reading import Reading
from tests.support.scripted_server import ScriptedService, Stub, open_channel

VERIFY = "/sayso.v1.VerificationService/Verify"


class Tenants:
    """Reading with two messages for each tenant; a test says who calls next."""

    def __init__(self) -> None:
        self.calling = "slow"
        self.refused: list[str] = []

    @asynccontextmanager
    async def channel(self, answer: ScriptedService) -> AsyncIterator[grpc.aio.Channel]:
        reading = Reading(
            max_pause_s=60.0,
            tenant=lambda: self.calling,
            count_refusal=self.refused.append,
            max_messages=2,
            patience_s=0.05,
        )
        around = GuardInterceptor(watching=(), admitting=())
        async with open_channel(answer, around, reading) as channel:
            yield channel


async def code(call: Any) -> grpc.StatusCode:
    ended: grpc.StatusCode = await call.code()
    return ended


async def test_requests_without_a_body_cost_only_their_tenant() -> None:
    tenants = Tenants()
    async with tenants.channel(ScriptedService()) as channel, asyncio.timeout(30.0):
        stub: Any = Stub(channel)
        begin = channel.stream_unary(VERIFY, pb.VerifyRequest.SerializeToString)
        slow = [begin() for _ in range(31)]
        while len(tenants.refused) < len(slow) - 2:
            await asyncio.sleep(0.001)
        assert await code(stub.Verify(pb.VerifyRequest())) is grpc.StatusCode.RESOURCE_EXHAUSTED
        tenants.calling = "other"
        await stub.Verify(pb.VerifyRequest())
        for call in slow:
            call.cancel()
    assert set(tenants.refused) == {"messages"}


class Work:
    """What a call does: begins, and waits until it may end."""

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self.may_end = asyncio.Event()

    async def __call__(self) -> None:
        self.begun.release()
        await self.may_end.wait()


@pytest.mark.parametrize(("size", "waits"), [(1000, False), (200_000, True)])
async def test_only_large_requests_in_work_keep_others_of_the_tenant_waiting(
    size: int, waits: bool
) -> None:
    tenants, work = Tenants(), Work()
    async with tenants.channel(ScriptedService(work)) as channel, asyncio.timeout(30.0):
        stub: Any = Stub(channel)
        working = [stub.Verify(pb.VerifyRequest(audio=bytes(size))) for _ in range(2)]
        for _ in working:
            await work.begun.acquire()
        more = [stub.Verify(pb.VerifyRequest(audio=bytes(size))) for _ in range(3)]
        if waits:
            exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
            assert [await code(call) for call in more] == [exhausted] * 3
        work.may_end.set()
        assert [await code(call) for call in working] == [grpc.StatusCode.OK] * 2
        if not waits:
            assert [await code(call) for call in more] == [grpc.StatusCode.OK] * 3
