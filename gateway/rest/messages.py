"""A request's message from its path, query and body; raises `BadRequest`."""

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway.documents import require_shallow
from gateway.rest.bindings import Binding
from gateway.rest.statuses import BadRequest

_BOOLEANS = {"true": True, "false": False}


def make_request(
    binding: Binding, path: Mapping[str, str], query: Iterable[tuple[str, str]], body: bytes
) -> Message:
    """What the path says of a field counts more than what the body does."""
    message = _parse_body(binding, body)
    message.MergeFrom(_parse_fields(binding.request, path.items()))
    given = list(query)
    if given and binding.body == "*":
        raise BadRequest("is no query parameter; send it in the body", field=given[0][0])
    for name, _ in given:
        if name in path or (binding.body and name.split(".")[0] == binding.body):
            raise BadRequest("is no query parameter here", field=name)
    message.MergeFrom(_parse_fields(binding.request, given))
    return message


def parse_query(kind: type[Message], query: Iterable[tuple[str, str]]) -> Message:
    """A message from query parameters alone, e.g. `?filter.states=SPEAKER_STATE_ENROLLED`."""
    return _parse_fields(kind, query)


def _parse_body(binding: Binding, body: bytes) -> Message:
    message = binding.request()
    if not binding.body:
        if body:
            raise BadRequest("this takes no body")
        return message
    target = message
    if binding.body != "*":
        target = getattr(message, binding.body)
        target.SetInParent()
    try:
        json_format.Parse(require_shallow(body or b"{}"), target)
    except (ValueError, json_format.Error) as error:
        raise BadRequest(f"the body is not the JSON of {target.DESCRIPTOR.name}: {error}") from None
    return message


def _parse_fields(kind: type[Message], given: Iterable[tuple[str, str]]) -> Message:
    tree: dict[str, Any] = {}
    for name, text in given:
        try:
            _put(tree, kind.DESCRIPTOR, name.split("."), text)
        except KeyError:
            raise BadRequest("there is no such field", field=name) from None
        except ValueError as error:
            raise BadRequest(str(error), field=name) from None
    message = kind()
    try:
        json_format.ParseDict(tree, message)
    except (ValueError, json_format.Error) as error:
        raise BadRequest(f"a parameter is not what its field takes: {error}") from None
    return message


def _put(tree: dict[str, Any], kind: Any, names: list[str], text: str) -> None:
    """Put a value into the JSON of `kind`, a message's descriptor. Raises `KeyError` if there is no
    such field, `ValueError` if it cannot be given so."""
    for name in names[:-1]:
        field = kind.fields_by_name[name]
        if field.message_type is None or field.is_repeated:
            raise ValueError("has no fields of its own")
        kind = field.message_type
        tree = tree.setdefault(name, {})
    field = kind.fields_by_name[names[-1]]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        raise ValueError("a map cannot be given as a parameter")
    value: Any = text
    if field.type == FieldDescriptor.TYPE_BOOL:
        if text not in _BOOLEANS:
            raise ValueError("must be true or false")
        value = _BOOLEANS[text]
    if field.is_repeated:
        tree.setdefault(names[-1], []).append(value)
    elif names[-1] in tree:
        raise ValueError("is given twice")
    else:
        tree[names[-1]] = value
