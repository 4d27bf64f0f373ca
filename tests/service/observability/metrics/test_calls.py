import asyncio
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY
from sayso.v1 import verification_pb2 as pb

from service.errors import NotFound
from service.observability.metrics.calls import count_calls
from service.rpc.interceptors import GuardInterceptor
from tests.support.scripted_server import ScriptedService, open_stub


def guarded() -> GuardInterceptor:
    return GuardInterceptor(watching=(count_calls,), admitting=())


SERVICE = "sayso.v1.VerificationService"


class Counted:
    """How much a sample of one method has grown since this was made."""

    def __init__(self, name: str, method: str, **labels: str) -> None:
        kind = "bidi_stream" if method == "StreamingEnroll" else "unary"
        self._name = name
        self._labels = {
            "grpc_type": kind,
            "grpc_service": SERVICE,
            "grpc_method": method,
            **labels,
        }
        self._before = self._now()

    def _now(self) -> float:
        return REGISTRY.get_sample_value(self._name, self._labels) or 0.0

    def __call__(self) -> float:
        return self._now() - self._before


class Refusing(ScriptedService):
    async def Verify(self, request: pb.VerifyRequest, context: Any) -> pb.VerifyResponse:
        raise NotFound("nobody")


class Waiting(ScriptedService):
    """Never answers; `entered` and `left` tell where a call is."""

    def __init__(self) -> None:
        self.entered, self.left = asyncio.Event(), asyncio.Event()
        super().__init__(self._wait)

    async def _wait(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            asyncio.get_running_loop().call_soon(self.left.set)


async def test_calls_that_succeed() -> None:
    started = Counted("grpc_server_started_total", "Verify")
    handled = Counted("grpc_server_handled_total", "Verify", grpc_code="OK")
    timed = Counted("grpc_server_handling_seconds_count", "Verify")
    async with open_stub(ScriptedService(), guarded()) as stub:
        for _ in range(3):
            await stub.Verify(pb.VerifyRequest())
    assert (started(), handled(), timed()) == (3, 3, 3)


async def test_calls_that_fail_are_counted_by_status() -> None:
    handled = Counted("grpc_server_handled_total", "Verify", grpc_code="NotFound")
    async with open_stub(Refusing(), guarded()) as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Verify(pb.VerifyRequest())
    assert handled() == 1


async def test_streams_are_open_until_they_end() -> None:
    is_open = Counted("sayso_open_calls", "StreamingEnroll")
    handled = Counted("grpc_server_handled_total", "StreamingEnroll", grpc_code="OK")
    async with open_stub(ScriptedService(), guarded()) as stub:
        call = stub.StreamingEnroll()
        for _ in range(2):
            await call.write(pb.StreamingEnrollRequest())
            await call.read()
        assert (is_open(), handled()) == (1, 0)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        await call.code()
    assert (is_open(), handled()) == (0, 1)


@pytest.mark.parametrize("method", ["Verify", "StreamingEnroll"])
async def test_a_caller_who_leaves(method: str) -> None:
    handled = Counted("grpc_server_handled_total", method, grpc_code="Canceled")
    is_open = Counted("sayso_open_calls", method)
    waiting = Waiting()
    async with open_stub(waiting, guarded()) as stub:
        call = (
            stub.StreamingEnroll()
            if method == "StreamingEnroll"
            else stub.Verify(pb.VerifyRequest())
        )
        if method == "StreamingEnroll":
            await call.write(pb.StreamingEnrollRequest())
        await asyncio.wait_for(waiting.entered.wait(), 10)
        assert is_open() == 1
        call.cancel()
        await asyncio.wait_for(waiting.left.wait(), 10)
    assert (handled(), is_open()) == (1, 0)


async def test_a_deadline_that_passes() -> None:
    handled = Counted("grpc_server_handled_total", "Verify", grpc_code="DeadlineExceeded")
    waiting = Waiting()
    async with open_stub(waiting, guarded()) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Verify(pb.VerifyRequest(), timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(waiting.left.wait(), 10)
    assert handled() == 1
