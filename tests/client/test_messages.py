"""Nothing that a server answers is lost on the way to a value."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from sayso import messages
from sayso.v1 import decision_pb2


def list_fields(kind: Descriptor, *path: str) -> Iterator[tuple[str, ...]]:
    """The path of every field that is not a message, in this message and those inside it."""
    for field in kind.fields:
        if field.message_type:
            yield from list_fields(field.message_type, *path, field.name)
        else:
            yield (*path, field.name)


def set_field(message: Any, path: tuple[str, ...]) -> None:
    """Give the field a value that it does not have by itself."""
    *parents, name = path
    for parent in parents:
        message = getattr(message, parent)
    field: FieldDescriptor = message.DESCRIPTOR.fields_by_name[name]
    value = "x" if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else 1
    if field.is_repeated:
        getattr(message, name).append(value)
    else:
        setattr(message, name, value)


FIELDS = list(list_fields(decision_pb2.Decision.DESCRIPTOR))


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_every_field_of_a_decision_is_in_its_value(path: tuple[str, ...]) -> None:
    empty, filled = decision_pb2.Decision(), decision_pb2.Decision()
    set_field(filled, path)
    assert messages.decision(filled) != messages.decision(empty)
