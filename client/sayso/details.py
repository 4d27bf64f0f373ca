"""The messages of `google.rpc` that explain a status, as gRPC servers attach them to one.

They are declared here, field by field as in google/rpc/status.proto and error_details.proto, in a
pool of their own: the client needs no package beside grpcio and protobuf, and an application that
imports googleapis-common-protos does not clash with them.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "google.rpc"
_FIELDS = descriptor_pb2.FieldDescriptorProto
_MESSAGES = {
    "Any": ["string type_url", "bytes value"],
    "Duration": ["int64 seconds", "int32 nanos"],
    "FieldViolation": ["string field", "string description"],
    "Status": ["int32 code", "string message", "repeated Any details"],
    "Entry": ["string key", "string value"],
    "ErrorInfo": [
        "string reason",
        "string domain",
        "repeated Entry metadata",
    ],  # a map, on the wire
    "BadRequest": ["repeated FieldViolation field_violations"],
    "RetryInfo": ["Duration retry_delay"],
}
"""The fields of each message in the order of their numbers, which begin at 1."""


def _declare(name: str, fields: list[str]) -> descriptor_pb2.DescriptorProto:
    declared = descriptor_pb2.DescriptorProto(name=name)
    for number, field in enumerate(fields, 1):
        *repeated, kind, field_name = field.split()
        added = declared.field.add(name=field_name, number=number)
        added.label = _FIELDS.LABEL_REPEATED if repeated else _FIELDS.LABEL_OPTIONAL
        if kind in _MESSAGES:
            added.type, added.type_name = _FIELDS.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
        else:
            added.type = _FIELDS.Type.Value(f"TYPE_{kind.upper()}")
    return declared


_pool = descriptor_pool.DescriptorPool()
_pool.Add(
    descriptor_pb2.FileDescriptorProto(
        name="sayso/details.proto",
        package=_PACKAGE,
        syntax="proto3",
        message_type=[_declare(name, fields) for name, fields in _MESSAGES.items()],
    )
)


def _load(name: str) -> Any:
    descriptor = _pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
    return message_factory.GetMessageClass(descriptor)


Status = _load("Status")
ErrorInfo = _load("ErrorInfo")
BadRequest = _load("BadRequest")
RetryInfo = _load("RetryInfo")


def unpack(status: Any, kind: Any) -> Any:
    """Return the status's detail of that kind, or None."""
    for packed in status.details:
        if packed.type_url.rpartition("/")[2] == kind.DESCRIPTOR.full_name:
            return kind.FromString(packed.value)
    return None
