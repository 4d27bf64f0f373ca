import asyncio
import io
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from sayso.v1 import verification_pb2 as pb

from service.errors import Unavailable
from service.observability import logs
from service.rpc.interceptors import GuardInterceptor
from tests.support.scripted_server import ScriptedService, open_stub


def guarded() -> GuardInterceptor:
    return GuardInterceptor(watching=(logs.log_calls,), admitting=())


HEARD = "a distinctive voice"


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def written() -> io.StringIO:
    stream = io.StringIO()
    logs.setup_logging(level="debug", form="json", stream=stream)
    return stream


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    found = map(json.loads, written.getvalue().splitlines())
    return [line for line in found if line["logger"].startswith(("service", "test"))]


def failing(error: Exception) -> Callable[[], Awaitable[None]]:
    async def act() -> None:
        raise error

    return act


async def request_id(call: Any) -> str:
    found = dict(await call.trailing_metadata())
    return str(found[logs.REQUEST_ID_KEY])


async def test_a_call_is_one_object_on_one_line(written: io.StringIO) -> None:
    async with open_stub(ScriptedService(), guarded()) as stub:
        call = stub.Verify(pb.VerifyRequest(), metadata=((logs.REQUEST_ID_KEY, "order-7.1"),))
        await call
        assert await request_id(call) == "order-7.1"
    [line] = lines(written)
    assert datetime.fromisoformat(line["time"]).tzinfo == UTC
    assert line["time"].endswith("Z")
    assert line["seconds"] > 0
    assert {key: line[key] for key in ("level", "logger", "request_id", "method", "code")} == {
        "level": "info",
        "logger": "service.observability.logs",
        "request_id": "order-7.1",
        "method": "/sayso.v1.VerificationService/Verify",
        "code": "OK",
    }


@pytest.mark.parametrize("given", ["", 'a"b', "two words", "x" * 65])
async def test_an_id_that_no_line_can_hold_is_replaced(written: io.StringIO, given: str) -> None:
    async with open_stub(ScriptedService(), guarded()) as stub:
        call = stub.Verify(pb.VerifyRequest(), metadata=((logs.REQUEST_ID_KEY, given),))
        await call
        made = await request_id(call)
    assert made != given
    assert [line["request_id"] for line in lines(written)] == [made]


async def test_every_line_of_a_call_names_its_request(written: io.StringIO) -> None:
    log = logging.getLogger("test")

    async def act() -> None:
        log.debug("before")
        await asyncio.sleep(0)
        await asyncio.to_thread(log.info, "from a thread")

    async with open_stub(ScriptedService(act), guarded()) as stub:
        calls = [stub.Verify(pb.VerifyRequest()) for _ in range(3)]
        await asyncio.gather(*calls)
        ids = {await request_id(call) for call in calls}
    log.info("after")
    *within, after = lines(written)
    assert len(ids) == 3
    for made in ids:
        told = [line["message"] for line in within if line["request_id"] == made]
        assert told[:2] == ["before", "from a thread"]
        assert len(told) == 3
    assert "request_id" not in after


async def test_a_stream_has_one_id_from_start_to_end(written: io.StringIO) -> None:
    async def act() -> None:
        logging.getLogger("test").info("an answer")

    async with open_stub(ScriptedService(act), guarded()) as stub:
        call = stub.StreamingEnroll(
            iter([pb.StreamingEnrollRequest(), pb.StreamingEnrollRequest()])
        )
        assert [each async for each in call] == [pb.StreamingEnrollResponse()] * 2
        made = await request_id(call)
    assert [line["request_id"] for line in lines(written)] == [made] * 3


def raised() -> Exception:
    """In no call's frame: what answers clears those that an error came through."""
    try:
        raise ValueError(HEARD) from KeyError(HEARD)
    except ValueError as error:
        return error


@pytest.mark.parametrize("form", ["text", "json"])
async def test_an_unexpected_error_is_told_without_its_message(form: logs.Format) -> None:
    written = io.StringIO()
    logs.setup_logging(level="debug", form=form, stream=written)
    async with open_stub(ScriptedService(failing(raised())), guarded()) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Verify(pb.VerifyRequest())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    told = written.getvalue()
    assert HEARD not in told
    assert "KeyError" in told
    assert "ValueError" in told
    assert "scripted_server.py" in told


async def test_an_error_of_our_own_is_told_whole(written: io.StringIO) -> None:
    try:
        raise Unavailable("the store is away")
    except Unavailable:
        logging.getLogger("test").exception("gave up")
    [line] = lines(written)
    assert line["message"] == "gave up"
    assert line["exception"].endswith("Unavailable: the store is away\n")


async def test_text_lines_hold_the_same(written: io.StringIO) -> None:
    before = written.getvalue()
    stream = io.StringIO()
    logs.setup_logging(level="info", form="text", stream=stream)
    async with open_stub(ScriptedService(), guarded()) as stub:
        await stub.Verify(pb.VerifyRequest(), metadata=((logs.REQUEST_ID_KEY, "a1"),))
    [line] = stream.getvalue().splitlines()
    assert " INFO service.observability.logs a1 /sayso.v1.VerificationService/Verify OK " in line
    assert written.getvalue() == before, "the handlers before are replaced"
