"""Read an ONNX file as protobuf, without the large `onnx` package, to check that it refers to no
other file before a runtime loads it.

Weights and compiled engines may be in files beside the model. The digest of the model does not
cover those, so whoever can write them could change what the server computes.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from service.errors import ModelError

# By message of onnx.proto: the fields that may contain a tensor, and the kind of their message.
_FIELDS: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_OP_TYPE = 4
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 64


def require_self_contained(path: Path) -> None:
    """Raise `ModelError` for a file that refers to others, or is no protobuf."""
    try:
        _check_message(memoryview(path.read_bytes()), "model", path, 0)
    except (IndexError, ValueError) as error:
        raise ModelError(
            f"{path} is damaged, or no ONNX model; fetch it again, or make it again with "
            "`sayso-export`"
        ) from error


def _check_message(data: memoryview, kind: str, path: Path, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    inner = _FIELDS[kind]
    for number, value in read_fields(data):
        if kind == "tensor" and (
            number == _EXTERNAL_DATA or (number, value) == (_DATA_LOCATION, 1)
        ):
            raise _make_error(path, "keeps weights in other files")
        op_type = bytes(value) if isinstance(value, memoryview) and number == _OP_TYPE else b""
        if kind == "node" and op_type == b"EPContext":
            raise _make_error(path, "runs an engine that is compiled already")
        if number in inner:
            if isinstance(value, int):
                raise ValueError("a number in the place of a message")
            _check_message(value, inner[number], path, depth + 1)


def read_fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message; raises IndexError or ValueError.

    https://protobuf.dev/programming-guides/encoding
    """
    at, end = 0, len(data)
    while at < end:
        key, at = _read_varint(data, at)
        wire = key & 7
        value: int | memoryview = 0
        if wire == _VARINT:
            value, at = _read_varint(data, at)
        elif wire == _LENGTH:
            size, at = _read_varint(data, at)
            value, at = data[at : at + size], at + size
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("a group, which ONNX has none of")
        if at > end:
            raise ValueError("cut short")
        yield key >> 3, value


def encode_field(number: int, value: int | bytes | memoryview) -> bytes:
    """Write a field as `read_fields` reads it: a number as a varint, bytes with their length."""
    if isinstance(value, int):
        return _encode_varint(number << 3 | _VARINT) + _encode_varint(value)
    return _encode_varint(number << 3 | _LENGTH) + _encode_varint(len(value)) + bytes(value)


def _encode_varint(value: int) -> bytes:
    """Write a number of 0 or more, seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Read a number; returns it and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _make_error(path: Path, how: str) -> ModelError:
    return ModelError(
        f"{path} {how}, which its digest does not cover: export it as one file "
        "(`sayso-export` does), or with onnx.save(model, path, save_as_external_data=False)"
    )
