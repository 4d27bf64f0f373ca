"""Messages built from bytes, field by field, of values that are likely to go wrong."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

T = TypeVar("T")

_KIND = FieldDescriptor
_FLOATS = (0.0, -0.0, 0.01, 0.5, 1.0, -1.0, 1.5, 60.0, 1e308, -1e308, 5e-324)
_NOT_FINITE = (float("nan"), float("inf"), float("-inf"))
_WHOLE = (0, 1, 2, 3, 100, 1_000, 1_001, 8_000, 16_000, 48_000)
_LIMITS: Mapping[int, tuple[int, ...]] = {
    _KIND.CPPTYPE_INT32: (-(2**31), -1, 999_999_999, 2**31 - 1),
    _KIND.CPPTYPE_INT64: (-(2**63), -1, 253402300799, 253402300800, -62135596801, 2**63 - 1),
    _KIND.CPPTYPE_UINT32: (2**31, 2**32 - 1),
    _KIND.CPPTYPE_UINT64: (2**63, 2**64 - 1),
    _KIND.CPPTYPE_ENUM: (4, 5, 99, -1, 2**31 - 1),
}
_TEXTS = ("", "x", "\0", "a\nb", "x" * 129, "é" * 128, "\U0010ffff", "../..", "%s", "1", "-1")
_DEPTH = 6

Pools = Mapping[str, Sequence[Any]]


class Source:
    """Bytes to choose by; zeros follow the last one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def byte(self) -> int:
        return int.from_bytes(self.take(1))

    def of(self, options: Sequence[T]) -> T:
        return options[self.byte() % len(options)]


def fill(message: Message, source: Source, pools: Pools, depth: int = _DEPTH) -> Message:
    """`message` with some of its fields set; `pools` has values for fields by their names."""
    for field in message.DESCRIPTOR.fields:
        choice = source.byte()
        if choice % 3 == 0 or not depth:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(choice >> 2 & 3):
                entry = getattr(message, field.name)
                entry[_text(source, pools, field.name)] = _text(source, pools, field.name)
        elif field.is_repeated:
            _repeat(message, field, source, pools, choice >> 2, depth)
        elif field.cpp_type == _KIND.CPPTYPE_MESSAGE:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), source, pools, depth - 1)
        else:
            setattr(message, field.name, _value(field, source, pools))
    return message


def _repeat(
    message: Message,
    field: Any,
    source: Source,
    pools: Pools,
    choice: int,
    depth: int,
) -> None:
    repeated = getattr(message, field.name)
    if field.name in pools and choice % 2:
        repeated.extend(source.of(pools[field.name]))
        return
    for _ in range(choice % 5 if choice < 60 else 40):
        if field.cpp_type == _KIND.CPPTYPE_MESSAGE:
            fill(repeated.add(), source, pools, depth - 1)
        else:
            repeated.append(_value(field, source, pools))


def _value(field: Any, source: Source, pools: Pools) -> Any:
    match field.cpp_type:
        case _KIND.CPPTYPE_BOOL:
            return source.byte() % 2 == 1
        case _KIND.CPPTYPE_FLOAT | _KIND.CPPTYPE_DOUBLE:
            return source.of((*_FLOATS, *_NOT_FINITE))
        case _KIND.CPPTYPE_STRING if field.type == _KIND.TYPE_BYTES:
            return _some_bytes(source, pools, field.name)
        case _KIND.CPPTYPE_STRING:
            return _text(source, pools, field.name)
    limits = _LIMITS[field.cpp_type]
    if field.cpp_type == _KIND.CPPTYPE_ENUM:
        return source.of((0, 1, 2, 3, *limits))
    return source.of((*_WHOLE, *limits))


def _some_bytes(source: Source, pools: Pools, name: str) -> bytes:
    if source.byte() % 4:
        return bytes(source.of(pools[name]))
    return source.take(source.byte() * 4)


def _text(source: Source, pools: Pools, name: str) -> str:
    """Often one that belongs there."""
    choice = source.byte()
    if name in pools and choice % 3 and isinstance(pools[name][0], str):
        return str(source.of(pools[name]))
    if choice % 3 == 1:
        return source.take(source.byte() % 32).decode(errors="replace")
    return source.of(_TEXTS)
