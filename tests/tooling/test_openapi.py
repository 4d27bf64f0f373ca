"""protos/openapi.yaml has the path, the verb and the fields of every unary rpc."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.api import annotations_pb2
from google.protobuf import json_format
from sayso.v1 import call_pb2, event_pb2, group_pb2, server_pb2, speaker_pb2, verification_pb2

FILE = Path(__file__).parents[2] / "protos/openapi.yaml"
METHODS = [
    method
    for module in (call_pb2, event_pb2, group_pb2, server_pb2, speaker_pb2, verification_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def get_rule(method: Any) -> tuple[str, str] | None:
    """The verb and the path of an rpc, None for a stream."""
    rule = json_format.MessageToDict(method.GetOptions().Extensions[annotations_pb2.http])
    verb = next((verb for verb in ("get", "post", "patch", "delete") if verb in rule), None)
    return (verb, rule[verb]) if verb else None


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_unary_rpc_has_a_path_and_no_stream_has(
    document: dict[str, Any], method: Any
) -> None:
    rule = get_rule(method)
    assert (rule is None) == (method.client_streaming or method.server_streaming)
    if rule is not None:
        verb, path = rule
        assert document["paths"][path][verb]["operationId"].endswith(f"_{method.name}")


def test_every_message_has_its_fields(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for module in (call_pb2, event_pb2, group_pb2, server_pb2, speaker_pb2, verification_pb2):
        for name, message in module.DESCRIPTOR.message_types_by_name.items():
            if name in schemas:
                fields = {field.name for field in message.fields}
                assert fields == set(schemas[name].get("properties", {})), name
