"""Nothing that a server answers is lost on the way to a value."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from sayso import messages, server
from sayso.v1 import (
    call_pb2,
    decision_pb2,
    event_pb2,
    group_pb2,
    server_pb2,
    speaker_pb2,
    verification_pb2,
)

FieldPath = tuple[str, ...]


def read_event(response: event_pb2.WatchEventsResponse) -> Any:
    return messages.event(response, lost=response.lost_events)


READ: dict[Any, Callable[[Any], Any]] = {
    call_pb2.AnnouncedCall: messages.announced_call,
    decision_pb2.Decision: messages.decision,
    event_pb2.WatchEventsResponse: read_event,
    group_pb2.Group: messages.group,
    group_pb2.GroupMatch: messages.match,
    server_pb2.GetServerInfoResponse: server._server_info,
    speaker_pb2.FailedVerifications: messages.failed_verifications,
    speaker_pb2.Speaker: messages.speaker,
    verification_pb2.EnrollResponse: messages.enrollment,
}
LEFT_OUT = {
    ("policies", "description"),
    ("quality", "net_speech_s"),  # of an enrollment: its progress has it
    ("voiceprints", "create_time"),
    ("voiceprints", "last_use_time"),
    ("voiceprints", "net_speech_s"),
    ("voiceprints", "vectors"),
}
"""What no value has, by the last two names of its path."""


def list_fields(kind: Descriptor, *path: str) -> Iterator[FieldPath]:
    """The path of every field in this message and those inside it, but of maps and times whole."""
    for field in kind.fields:
        inside = field.message_type
        if inside and inside.full_name.startswith("sayso.") and not inside.GetOptions().map_entry:
            yield from list_fields(inside, *path, field.name)
        else:
            yield (*path, field.name)


def reach(message: Any, parents: FieldPath) -> Any:
    """The message inside that holds a field, which is there from now on."""
    for parent in parents:
        inside = getattr(message, parent)
        message = inside.add() if hasattr(inside, "add") else inside
        message.SetInParent()
    return message


def set_field(message: Any, name: str) -> None:
    """Give the field a value that it does not have by itself."""
    field: FieldDescriptor = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type and field.message_type.GetOptions().map_entry:
        getattr(message, name)["x"] = "x"
    elif field.message_type:
        getattr(message, name).FromSeconds(1)
    elif field.is_repeated:
        getattr(message, name).append(make_value(field))
    else:
        setattr(message, name, make_value(field))


def make_value(field: FieldDescriptor) -> str | int:
    return "x" if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else 1


FIELDS = [(kind, path) for kind in READ for path in list_fields(kind.DESCRIPTOR)]


@pytest.mark.parametrize(
    ("kind", "path"), FIELDS, ids=[f"{kind.__name__}.{'.'.join(path)}" for kind, path in FIELDS]
)
def test_every_field_of_an_answer_is_in_its_value(kind: Any, path: FieldPath) -> None:
    empty, filled = kind(), kind()
    reach(empty, path[:-1])
    set_field(reach(filled, path[:-1]), path[-1])
    of_decision = kind in (decision_pb2.Decision, event_pb2.WatchEventsResponse)
    left_out = path[-2:] in LEFT_OUT and not of_decision
    assert (READ[kind](filled) == READ[kind](empty)) is left_out
