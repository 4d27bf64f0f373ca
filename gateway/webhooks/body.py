"""An event as the body of a webhook: a CloudEvent 1.0 in structured JSON."""

import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from sayso.v1 import event_pb2

CONTENT_TYPE = "application/cloudevents+json"

_PREFIX = "EVENT_TYPE_"


def name_type(event: event_pb2.Event) -> str | None:
    """The type as configured, e.g. `call.ended`; None if it is of a newer API than this."""
    try:
        name = event_pb2.EventType.Name(event.type)
    except ValueError:
        return None
    return name.removeprefix(_PREFIX).lower().replace("_", ".")


def encode(event: event_pb2.Event, kind: str, source: str) -> bytes:
    """The CloudEvent; its data are the event in the API's JSON."""
    data = MessageToDict(event)
    return encode_event(
        event_id=event.event_id,
        kind=kind,
        source=source,
        time=data.get("createTime", ""),
        subject=event.speaker_id,
        data=data,
    )


def encode_event(
    *, event_id: str, kind: str, source: str, time: str, subject: str, data: dict[str, Any]
) -> bytes:
    """A CloudEvent from its parts; `time` is in RFC 3339, `subject` is left out if empty."""
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": f"dev.sayso.{kind}",
        "time": time,
        "datacontenttype": "application/json",
    }
    if subject:
        attributes["subject"] = subject
    return json.dumps(attributes | {"data": data}, ensure_ascii=False).encode()
