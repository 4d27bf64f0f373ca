"""Read the pickle inside a PyTorch checkpoint as data.

A pickle is a program: `pickle.load` lets it call anything. Here `pickletools` splits it into
opcodes, and a small machine follows those that dictionaries of tensors are written with. It looks
no name up and calls nothing; the four names that it knows stand for values of its own.

https://github.com/python/cpython/blob/main/Lib/pickletools.py describes the opcodes.
"""

import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import ModelError

_MAX_BYTES = 16 << 20
_MAX_COUNT = 1 << 40
_MAX_AXES = 8


@dataclass(frozen=True, slots=True)
class Storage:
    """The numbers of a tensor: `count` of type `dtype` (as numpy writes it) in the file `key`."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor as part of a storage; `offset` and `stride` count numbers, not bytes."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Name:
    """One of the names that a checkpoint may hold."""

    name: str


_TENSOR, _DICT = _Name("torch._utils _rebuild_tensor_v2"), _Name("collections OrderedDict")
_DTYPES = {_Name("torch FloatStorage"): "<f4", _Name("torch LongStorage"): "<i8"}
_NAMES = {known.name: known for known in (_TENSOR, _DICT, *_DTYPES)}


def read_pickle(data: bytes) -> Any:
    """Return what a pickle of plain containers and tensors holds; tensors are `TensorView`s.

    Raises `ModelError` for anything else.
    """
    if len(data) > _MAX_BYTES:
        raise ModelError(f"its index is larger than {_MAX_BYTES >> 20} MiB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of escapes in a name
            return _Machine().run(data)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelError("its pickle is damaged") from error


class _Machine:
    """The stack, what lies below its marks, and the values that opcodes refer back to."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return self._stack.pop()
            if opcode.name not in _OPCODES:
                raise ModelError(f"its pickle uses {opcode.name}, which no plain tensors need")
            _OPCODES[opcode.name](self, argument)
        raise ValueError("no STOP")

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def pop_to_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._below.pop()
        return values

    def pop(self, count: int) -> list[Any]:
        if count > len(self._stack):
            raise ValueError("an empty stack")
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return values

    def remember(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def recall(self, index: int) -> None:
        self.push(self._memo[index])

    def push_name(self, name: str) -> None:
        if name not in _NAMES:
            raise ModelError(f"its pickle names {name.replace(' ', '.')[:80]!r}, no plain tensor")
        self.push(_NAMES[name])

    def push_storage(self, _: Any) -> None:
        kind, dtype, key, _location, count = self._stack.pop()
        if kind != "storage" or not isinstance(dtype, _Name) or not isinstance(key, str):
            raise ValueError("no storage")
        self.push(Storage(_DTYPES[dtype], key, _require_count(count)))

    def reduce(self, _: Any) -> None:
        function, arguments = self.pop(2)
        if function is _DICT and arguments == ():
            self.push({})
        elif function is _TENSOR:
            self.push(_make_view(*arguments[:4]))
        else:
            raise ValueError("a call of what is no function")

    def drop_state(self, _: Any) -> None:
        """A module's version numbers, which `OrderedDict` carries as an attribute."""
        self.pop(1)

    def set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        keys = values[::2]
        if not isinstance(target, dict) or not all(isinstance(key, str) for key in keys):
            raise ModelError("its pickle holds keys that are no names")
        target.update(zip(keys, values[1::2], strict=True))

    def extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise ValueError("no list")
        target.extend(values)


def _make_view(storage: Any, offset: Any, size: Any, stride: Any) -> TensorView:
    if not isinstance(storage, Storage):
        raise ValueError("no tensor")
    return TensorView(
        storage, _require_count(offset), _require_counts(size), _require_counts(stride)
    )


def _require_counts(values: Any) -> tuple[int, ...]:
    if type(values) is not tuple or len(values) > _MAX_AXES:
        raise ValueError("no shape")
    return tuple(_require_count(value) for value in values)


def _require_count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MAX_COUNT:
        raise ValueError("no count")
    return value


_OPCODES: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "MARK": _Machine.mark,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), _Machine.push),
    **dict.fromkeys(("BINUNICODE", "BINFLOAT"), _Machine.push),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop(3))),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.recall),
    "GLOBAL": _Machine.push_name,
    "BINPERSID": _Machine.push_storage,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.drop_state,
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
}
