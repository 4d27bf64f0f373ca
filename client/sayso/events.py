"""Events as they happen (`EventService`)."""

from collections.abc import Iterable
from typing import Any

from sayso import messages
from sayso.calls import Feed
from sayso.v1 import event_pb2
from sayso.v1.event_pb2_grpc import EventServiceStub
from sayso.values import Event, EventType


def watch_events(
    *,
    types: Iterable[EventType] = (),
    speaker_id: str = "",
    resume_token: str = "",
    from_oldest: bool = False,
) -> Feed[Event]:
    """Yield events from the first step on, for as long as you go on; of all types and speakers
    unless some are named. Give the `resume_token` of the last event that you dealt with to get
    those since then; without one, `from_oldest` begins with the oldest that is kept. A connection
    that is lost is made again, and events may then come twice, with the same `event_id`."""
    request = event_pb2.WatchEventsRequest(
        resume_token=resume_token,
        from_oldest=from_oldest,
        types=[messages.event_type(kind) for kind in types],
        speaker_id=speaker_id,
    )
    lost = 0

    def read(response: Any) -> Event | None:
        nonlocal lost
        lost += response.lost_events
        if not response.HasField("event"):
            return None
        counted, lost = lost, 0
        return messages.event(response, lost=counted)

    return Feed(EventServiceStub, "WatchEvents", request, read)
