"""`WatchEvents` as server-sent events (HTML, section 9.2).

    id: <resume token>          of every response; a browser that comes back sends it again
    event: lost                 {"lost_events": 3}
    data: {...}                 an Event

A response without an event has an id alone, which reaches no handler and keeps proxies awake.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import json_format
from sayso.v1 import event_pb2
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.rest.messages import parse_query
from gateway.rest.statuses import (
    RequestRefused,
    describe_status,
    read_status,
    respond_to_error,
)

_RPC = "/sayso.v1.EventService/WatchEvents"
_FIRST_S = 30.0


class EventStream:
    """Opens the rpc on a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._open = channel.unary_stream(
            _RPC,
            request_serializer=event_pb2.WatchEventsRequest.SerializeToString,
            response_deserializer=event_pb2.WatchEventsResponse.FromString,
        )

    def __call__(self, request: Any, metadata: list[tuple[str, str]]) -> Any:
        return self._open(request, metadata=metadata)


async def watch(
    stream: EventStream,
    request: Request,
    metadata: list[tuple[str, str]],
    places: asyncio.Semaphore,
) -> Response:
    """Answer once the server has taken the request, so that a refusal has its HTTP code."""
    asked: Any = parse_query(event_pb2.WatchEventsRequest, request.query_params.multi_items())
    if token := request.headers.get("last-event-id"):
        asked.resume_token = token
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(places)
        call = stream(asked, metadata)
        stack.callback(call.cancel)
        try:
            async with asyncio.timeout(_FIRST_S):
                first = await call.read()
        except grpc.aio.AioRpcError as error:
            return respond_to_error(error, {})
        except TimeoutError:
            raise RequestRefused(
                grpc.StatusCode.UNAVAILABLE, "the server does not answer; try again"
            ) from None
        if first is grpc.aio.EOF:
            raise RequestRefused(grpc.StatusCode.UNAVAILABLE, "the server is about to stop")
        return _Events(first, call, stack.pop_all())


class _Events(StreamingResponse):
    """Gives up the call and the watcher's place however the response ends."""

    def __init__(self, first: Any, call: Any, held: contextlib.AsyncExitStack) -> None:
        super().__init__(
            _write(first, call),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _write(first: Any, call: Any) -> AsyncIterator[str]:
    response = first
    try:
        while response is not grpc.aio.EOF:
            yield format_response(response)
            response = await call.read()
    except grpc.aio.AioRpcError as error:
        yield f"event: error\ndata: {describe_status(read_status(error))}\n\n"


def format_response(response: Any) -> str:
    """The lines of a response: an id, and what it carries."""
    text = ""
    if response.lost_events:
        text += f"event: lost\ndata: {json.dumps({'lost_events': response.lost_events})}\n\n"
    text += f"id: {response.resume_token}\n"
    if response.HasField("event"):
        event = json_format.MessageToJson(
            response.event,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            indent=None,
        )
        text += f"data: {event}\n"
    return text + "\n"
