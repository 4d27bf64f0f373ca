"""docs/integrate/api.md: every method, message and enumeration of the API, from protos/sayso/v1.

The words are the comments of the protos; the roles are those that the server checks.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

from service.access import ROLES

PROTOS = Path(__file__).resolve().parents[2] / "protos"
WELL_KNOWN = Path(protoc.__file__).parent / "_proto"
PACKAGE = "sayso.v1"
SERVICES = (
    "verification",
    "speaker",
    "group",
    "call",
    "event",
    "server",
)  # in the order of the page
VALUES = ("decision", "audio")  # what the messages of the services hold

# Field numbers of descriptor.proto, of which the paths to comments consist.
_MESSAGE, _ENUM, _SERVICE, _FIELD, _VALUE, _METHOD = 4, 5, 6, 2, 2, 2
_SCALARS = {
    FieldDescriptorProto.TYPE_DOUBLE: "double",
    FieldDescriptorProto.TYPE_FLOAT: "float",
    FieldDescriptorProto.TYPE_INT32: "int32",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_UINT32: "uint32",
    FieldDescriptorProto.TYPE_UINT64: "uint64",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
}

INTRODUCTION = """\
# API reference

<!-- Written by `make reference` from protos/sayso/v1. -->

You call the server over gRPC, from any language. The protos are in
[protos/sayso/v1](../../protos/sayso/v1); the package is `sayso.v1`. Python has [a client of its
own](../../client/README.md).

- A credential goes into the metadata `authorization: Bearer <key>` or `x-api-key: <key>`; each
  method says which [role](../security/access.md#roles) it needs.
- An id of your own for a call goes into the metadata `x-request-id`: the server's log has it in
  every line, and the trailing metadata of the call answers it.
- Errors are gRPC statuses with `google.rpc.ErrorInfo` of the domain `sayso`, whose `reason` never
  changes.
- Fields marked `optional` tell "unset" from zero. A method with a path also says where it is as
  JSON over HTTP ([OpenAPI](../../protos/openapi.yaml)); the server itself speaks gRPC only.
- Names end in their unit: `_s` is seconds, `_db` decibels.
"""


@dataclass(frozen=True)
class ProtoFile:
    """A proto with the comments of its parts, by their paths."""

    descriptor: FileDescriptorProto

    @cached_property
    def _comments(self) -> Mapping[tuple[int, ...], str]:
        locations = self.descriptor.source_code_info.location
        return {tuple(one.path): one.leading_comments for one in locations}

    def comment(self, *path: int) -> str:
        """The comment before a part, in one line; empty if there is none."""
        return " ".join(self._comments.get(path, "").split())


def read_protos() -> Mapping[str, ProtoFile]:
    """Compile the protos and return each with its comments, by its name without the suffix."""
    names = (*SERVICES, *VALUES)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "set"
        arguments = [f"-I{PROTOS}", f"-I{WELL_KNOWN}", "--include_source_info"]
        files = [f"{PROTOS}/sayso/v1/{name}.proto" for name in names]
        if protoc.main(["protoc", *arguments, f"--descriptor_set_out={target}", *files]):
            raise ValueError("the protos cannot be compiled; protoc says why above")
        compiled = FileDescriptorSet.FromString(target.read_bytes())
    return {Path(one.name).stem: ProtoFile(one) for one in compiled.file}


def render_page() -> str:
    """The whole page."""
    files = read_protos()
    lines = [INTRODUCTION]
    for name in SERVICES:
        file = files[name].descriptor
        for place, service in enumerate(file.service):
            lines += _render_service(files[name], service, place)
        lines += _render_types(files[name])
    lines += ["## What they share", ""]
    for name in VALUES:
        lines += _render_types(files[name])
    return "\n".join(lines).rstrip() + "\n"


def _render_service(file: ProtoFile, service: ServiceDescriptorProto, place: int) -> list[str]:
    lines = [f"## {service.name}", "", file.comment(_SERVICE, place), ""]
    lines += ["| method | role | |", "|---|---|---|"]
    for number, method in enumerate(service.method):
        role = ROLES.get(f"/{PACKAGE}.{service.name}/{method.name}")
        meaning = file.comment(_SERVICE, place, _METHOD, number)
        lines.append(
            f"| `{method.name}` | {f'`{role.value}`' if role else 'any'} "
            f"| {_say_messages(method)} {meaning}{_say_path(method)} |"
        )
    return [*lines, ""]


def _say_messages(method: MethodDescriptorProto) -> str:
    asked = _link(method.input_type, streamed=method.client_streaming)
    answered = _link(method.output_type, streamed=method.server_streaming)
    return f"{asked} → {answered}."


def _link(type_name: str, *, streamed: bool = False) -> str:
    name = type_name.rpartition(".")[2]
    return f"{'stream of ' if streamed else ''}[{name}](#{name.lower()})"


def _say_path(method: MethodDescriptorProto) -> str:
    rule = method.options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    return f" `{verb.upper()} {getattr(rule, verb)}`" if verb else ""


def _render_types(file: ProtoFile) -> list[str]:
    lines: list[str] = []
    for place, message in enumerate(file.descriptor.message_type):
        lines += _render_message(file, message, place)
    for place, enum in enumerate(file.descriptor.enum_type):
        lines += _render_enum(file, enum, place)
    return lines


def _render_message(file: ProtoFile, message: DescriptorProto, place: int) -> list[str]:
    lines = _begin(message.name, file.comment(_MESSAGE, place))
    if not message.field:
        return [*lines, "No fields.", ""]
    lines += ["| field | type | |", "|---|---|---|"]
    for number, field in enumerate(message.field):
        meaning = [*_list_behaviors(field), file.comment(_MESSAGE, place, _FIELD, number)]
        cells = (f"`{field.name}`", _say_type(message, field), " ".join(filter(None, meaning)))
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _render_enum(file: ProtoFile, enum: EnumDescriptorProto, place: int) -> list[str]:
    lines = _begin(enum.name, file.comment(_ENUM, place))
    lines += ["| value | |", "|---|---|"]
    lines += [
        f"| `{value.name}` | {file.comment(_ENUM, place, _VALUE, number)} |"
        for number, value in enumerate(enum.value)
    ]
    return [*lines, ""]


def _begin(name: str, comment: str) -> list[str]:
    return [f"### {name}", "", *([comment, ""] if comment else [])]


def _say_type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    nested = {f".{PACKAGE}.{message.name}.{one.name}": one for one in message.nested_type}
    entry = nested.get(field.type_name)
    if entry is not None and entry.options.map_entry:
        key, value = entry.field
        return f"map of {_name_type(key)} to {_name_type(value)}"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {_name_type(field)}"
    if field.proto3_optional:
        return f"optional {_name_type(field)}"
    if field.HasField("oneof_index"):
        return f"{_name_type(field)}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return _name_type(field)


def _name_type(field: FieldDescriptorProto) -> str:
    if field.type in _SCALARS:
        return _SCALARS[field.type]
    if field.type_name.startswith(f".{PACKAGE}."):
        return _link(field.type_name)
    return f"`{field.type_name.lstrip('.')}`"


def _list_behaviors(field: FieldDescriptorProto) -> Iterator[str]:
    said = {
        field_behavior_pb2.FieldBehavior.REQUIRED: "Required.",
        field_behavior_pb2.FieldBehavior.OUTPUT_ONLY: "Set by the server.",
    }
    behaviors: Sequence[int] = field.options.Extensions[field_behavior_pb2.field_behavior]
    yield from (said[one] for one in behaviors if one in said)
