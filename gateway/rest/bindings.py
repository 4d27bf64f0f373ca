"""The rpcs that have an http annotation, found by verb and path."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from sayso.v1 import call_pb2, event_pb2, group_pb2, server_pb2, speaker_pb2, verification_pb2

from gateway.rest.templates import Template, parse_template

FILES: tuple[FileDescriptor, ...] = tuple(
    module.DESCRIPTOR
    for module in (call_pb2, event_pb2, group_pb2, server_pb2, speaker_pb2, verification_pb2)
)


@dataclass(frozen=True, slots=True)
class Binding:
    """A verb and a path that stand for an rpc. `body` names the field that the body is: `*` is the
    whole request, and empty is no body."""

    verb: str
    template: Template
    body: str
    method: MethodDescriptor

    @property
    def rpc(self) -> str:
        """The full name of the method, as gRPC spells it."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def request(self) -> type[Message]:
        return GetMessageClass(self.method.input_type)

    @property
    def response(self) -> type[Message]:
        return GetMessageClass(self.method.output_type)


class Bindings:
    """All bindings, the most specific path first."""

    def __init__(self, files: Iterable[FileDescriptor] = FILES) -> None:
        found = [binding for file in files for binding in _list_bindings(file)]
        self._all = sorted(found, key=lambda binding: binding.template.specificity)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._all)

    def find(self, verb: str, path: str) -> tuple[Binding, dict[str, str]] | None:
        """The binding of a path that is still encoded, with the fields that the path gives."""
        for binding in self._all:
            if binding.verb == verb and (fields := binding.template.match(path)) is not None:
                return binding, fields
        return None

    def list_verbs(self, path: str) -> list[str]:
        """The verbs that a path has."""
        return sorted({each.verb for each in self._all if each.template.match(path) is not None})


def _list_bindings(file: FileDescriptor) -> Iterator[Binding]:
    for service in file.services_by_name.values():
        for method in service.methods:
            options: Any = method.GetOptions()
            if not options.HasExtension(annotations_pb2.http):
                continue
            rule: Any = options.Extensions[annotations_pb2.http]
            for each in (rule, *rule.additional_bindings):
                verb = each.WhichOneof("pattern")
                yield Binding(verb.upper(), parse_template(getattr(each, verb)), each.body, method)
