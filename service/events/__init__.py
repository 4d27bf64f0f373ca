"""Events: what happens to a tenant's voices and calls, told to whoever watches.

a decision, a lock, ... ─> Event ─> EventLog.publish ─> encode ─> store, bounded and sealed
                                         │ wakes              │ polled, as other servers write too
                                         └─> EventLog.follow <┘ ─> watchers, from where they were

An event is stored before the answer that it belongs to is sent, so that a server that dies loses
none that anybody was told. If the store is away, the event is lost, counted and logged: a decision
is worth more than its announcement.
"""

from service.events.event import Event, EventType, Publish, publish_nothing
from service.events.log import EventLog

__all__ = ["Event", "EventLog", "EventType", "Publish", "publish_nothing"]
