"""`EventService`: events as they happen.

An event is stored as its message, with scores, which only watchers with the role `analyze` see.
"""

import base64
import binascii
import struct
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass

from sayso.v1 import event_pb2 as pb
from sayso.v1 import event_pb2_grpc

from service.errors import InvalidArgument
from service.events import Event, EventLog, EventType
from service.rpc import messages
from service.rpc.requests import Context, get_tenant, sees_scores

KEEP_ALIVE_S = 15.0
"""Seconds without an event after which a watcher gets a newer token."""

_TYPES = {one: pb.EventType.Value(f"EVENT_TYPE_{one.name}") for one in EventType}
_TOKEN = struct.Struct(">BQ")  # version, number of the event to go on from
_TOKEN_VERSION = 1


class EventRpc(event_pb2_grpc.EventServiceServicer):
    def __init__(self, log: EventLog, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        tenant, wanted, scores = get_tenant(), _Filter.parse(request), sees_scores()
        token = request.resume_token
        after = (
            parse_token(token)
            if token
            else await self._log.find_start(tenant, oldest=request.from_oldest)
        )
        yield pb.WatchEventsResponse(resume_token=make_token(after))
        told_at, lost = self._clock(), 0
        async for news in self._log.follow(tenant, after=after):
            lost += news.lost
            for stored in news.events:
                event = pb.Event.FromString(stored.record)
                if wanted.admits(event):
                    yield pb.WatchEventsResponse(
                        event=event if scores else hide_scores(event),
                        resume_token=make_token(stored.number),
                        lost_events=lost,
                    )
                    told_at, lost = self._clock(), 0
            if lost or self._clock() >= told_at + KEEP_ALIVE_S:
                yield pb.WatchEventsResponse(
                    resume_token=make_token(news.read_to), lost_events=lost
                )
                told_at, lost = self._clock(), 0


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which events a watcher asked for; empty fields admit all."""

    types: Collection[int]
    speaker_id: str

    @classmethod
    def parse(cls, request: pb.WatchEventsRequest) -> "_Filter":
        if not set(request.types) <= set(_TYPES.values()):
            raise InvalidArgument("holds what is not a type of this API", field="types")
        if request.speaker_id:
            messages.parse_speaker_id(request.speaker_id)
        return cls(frozenset(request.types), request.speaker_id)

    def admits(self, event: pb.Event) -> bool:
        is_of_type = not self.types or event.type in self.types
        return is_of_type and self.speaker_id in ("", event.speaker_id)


def encode_event(event: Event, at: float) -> bytes:
    """Encode an event that happened `at` as it is stored."""
    message = pb.Event(
        event_id=event.event_id,
        type=_TYPES[event.type],
        create_time=messages.build_timestamp(at),
        speaker_id=event.speaker_id,
        request_id=event.request_id,
        watchlist_matches=messages.build_matches(event.matches, scores=True),
    )
    if event.decision is not None:
        decision = messages.build_decision(event.decision, event.matches, scores=True)
        message.decision.CopyFrom(decision)
    if event.locked_until is not None:
        message.lock_expire_time.CopyFrom(messages.build_timestamp(event.locked_until))
    return message.SerializeToString()


def hide_scores(event: pb.Event) -> pb.Event:
    """Take out of an event what only the role `analyze` may see."""
    scored = [event.decision] if event.HasField("decision") else []
    for part in (*scored, *event.watchlist_matches):
        part.ClearField("cosine")
        part.ClearField("llr")
    if event.decision.HasField("threshold"):
        event.decision.threshold.ClearField("llr")
    return event


def make_token(number: int) -> str:
    """Make the token from which a client goes on after the event of this number."""
    return base64.urlsafe_b64encode(_TOKEN.pack(_TOKEN_VERSION, number)).decode()


def parse_token(token: str) -> int:
    """Undo `make_token`."""
    try:
        version, number = _TOKEN.unpack(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, struct.error, ValueError):
        version, number = 0, 0
    if version != _TOKEN_VERSION:
        raise InvalidArgument("is not one of a response; send it as it came", field="resume_token")
    return int(number)
