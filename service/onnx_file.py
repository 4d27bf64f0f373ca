"""An ONNX file read as protobuf, before a runtime reads it and without the `onnx` package, which is
large: its fields, and whether it refers to anything outside of itself.

Weights may lie in files beside the model, and a compiled engine, too. The digest of the model is
not of those: whoever can write them would choose what the server computes.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from service.errors import ModelError

# The fields of each message of onnx.proto that lead to a tensor, and what they are.
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
    """Raises `ModelError` for a file that refers to others, or is no protobuf."""
    try:
        _search(memoryview(path.read_bytes()), "model", path, 0)
    except (IndexError, ValueError) as error:
        raise ModelError(
            f"{path} is damaged, or no ONNX model; fetch it again, or make it again with "
            "`sayso-export`"
        ) from error


def _search(data: memoryview, kind: str, path: Path, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    inner = _FIELDS[kind]
    for number, value in read_fields(data):
        if kind == "tensor" and (
            number == _EXTERNAL_DATA or (number, value) == (_DATA_LOCATION, 1)
        ):
            raise _refers(path, "keeps weights in other files")
        named = bytes(value) if isinstance(value, memoryview) and number == _OP_TYPE else b""
        if kind == "node" and named == b"EPContext":
            raise _refers(path, "runs an engine that is compiled already")
        if number in inner:
            if isinstance(value, int):
                raise ValueError("a number in the place of a message")
            _search(value, inner[number], path, depth + 1)


def read_fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message; raises IndexError or ValueError.

    https://protobuf.dev/programming-guides/encoding
    """
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        value: int | memoryview = 0
        if wire == _VARINT:
            value, at = _varint(data, at)
        elif wire == _LENGTH:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("a group, which ONNX has none of")
        if at > end:
            raise ValueError("cut short")
        yield key >> 3, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _refers(path: Path, how: str) -> ModelError:
    return ModelError(
        f"{path} {how}, which its digest does not cover: export it as one file "
        "(`sayso-export` does), or with onnx.save(model, path, save_as_external_data=False)"
    )
