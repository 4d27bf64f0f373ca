"""Fill a graph that has no weights with those of a checkpoint.

`exporters.skeleton` made the graph: an ONNX file in which the values of each weight are replaced by
a recipe, in the tensor's doc_string, of how they follow from the checkpoint. ONNX is protobuf, so
that the `onnx` package is not needed: fields are copied, and those of weights written anew.
"""

import gzip
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.adoption.checkpoint import Tensors
from service.errors import ModelError
from service.onnx_file import encode_field, read_fields

Floats: TypeAlias = NDArray[np.float32]
Field: TypeAlias = tuple[int, int | memoryview]

# Numbers of the fields in onnx.proto.
_GRAPH, _METADATA = 7, 14
_NODE, _INITIALIZER = 1, 5
_NODE_NAME, _NODE_DOC = 3, 6
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _DOC = 1, 2, 8, 9, 12
_KEY, _VALUE = 1, 2

BATCH_NORM_EPSILON = np.float32(1e-5)


def copy(tensors: Tensors, name: str) -> Floats:
    """A weight as it is."""
    return _get(tensors, name)


def scale(tensors: Tensors, weight: str, norm: str) -> Floats:
    """A convolution's weight with the scale of the batch norm after it."""
    kernel = _get(tensors, weight)
    factors = _get_scale(tensors, norm).reshape(-1, *(1,) * (kernel.ndim - 1))
    return np.multiply(kernel, factors, dtype=np.float32)


def shift(tensors: Tensors, norm: str) -> Floats:
    """The bias that a batch norm leaves to the convolution before it."""
    mean = _get(tensors, f"{norm}.running_mean")
    moved: Floats = np.multiply(mean, _get_scale(tensors, norm), dtype=np.float32)
    return np.subtract(_get(tensors, f"{norm}.bias"), moved, dtype=np.float32)


RECIPES: Mapping[str, Callable[..., Floats]] = {"copy": copy, "scale": scale, "shift": shift}
"""By the first word of a recipe; the other words are names of the checkpoint.

They are computed in float32 in the order in which PyTorch's exporter does it, so that the weights
are those of `sayso-export adopt`, bit for bit."""


def _get_scale(tensors: Tensors, norm: str) -> Floats:
    variance = _get(tensors, f"{norm}.running_var")
    deviation: Floats = np.sqrt(variance + BATCH_NORM_EPSILON, dtype=np.float32)
    return np.divide(_get(tensors, f"{norm}.weight"), deviation, dtype=np.float32)


def _get(tensors: Tensors, name: str) -> Floats:
    if name not in tensors or tensors[name].dtype != np.float32:
        raise ModelError(f"the checkpoint is of another model: it lacks the weight {name}")
    return tensors[name]


def read_skeleton(path: Path) -> bytes:
    """Read a skeleton as `exporters.skeleton` wrote it; raises `ModelError`."""
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise ModelError(f"cannot read {path}: {error}; install Sayso again") from error


def fill(skeleton: bytes, tensors: Tensors) -> bytes:
    """Return the ONNX model of `skeleton` with weights from `tensors`.

    Raises `ModelError` unless they are exactly those that the skeleton needs, finite, and of its
    shapes.
    """
    used: set[str] = set()
    model = b"".join(
        encode_field(number, _fill_graph(value, tensors, used))
        if number == _GRAPH and isinstance(value, memoryview)
        else encode_field(number, value)
        for number, value in read_fields(memoryview(skeleton))
    )
    if unknown := [name for name in tensors if name not in used and not _counts_batches(name)]:
        raise ModelError(f"the checkpoint is of another model: it also holds {unknown[0][:80]!r}")
    return model


def _counts_batches(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _fill_graph(graph: memoryview, tensors: Tensors, used: set[str]) -> bytes:
    return b"".join(
        encode_field(number, _fill_tensor(value, tensors, used))
        if number == _INITIALIZER and isinstance(value, memoryview)
        else encode_field(number, value)
        for number, value in read_fields(graph)
    )


def _fill_tensor(tensor: memoryview, tensors: Tensors, used: set[str]) -> bytes | memoryview:
    """Write a weight by its recipe; a constant of the graph has none, and stays."""
    fields = list(read_fields(tensor))
    recipe = _get_text(fields, _DOC).split()
    if not recipe:
        return tensor
    shape = tuple(value for number, value in fields if number == _DIMS)
    with np.errstate(all="ignore"):  # what comes of it is refused below
        values = RECIPES[recipe[0]](_Noting(tensors, used), *recipe[1:])
    if values.shape != shape:
        raise ModelError(
            f"the checkpoint is of another model: {recipe[1]} is {values.shape}, not {shape}"
        )
    if not np.isfinite(values).all():
        raise ModelError(f"the checkpoint's {recipe[1]} holds numbers that are not finite")
    kept = [field for field in fields if field[0] != _DOC]
    raw = np.ascontiguousarray(values, "<f4").tobytes()
    return encode_fields([*kept, (_RAW_DATA, memoryview(raw))])


class _Noting(Mapping[str, NDArray[Any]]):
    """Tensors that note which of them were used."""

    def __init__(self, tensors: Tensors, used: set[str]) -> None:
        self._tensors = tensors
        self._used = used

    def __getitem__(self, name: str) -> NDArray[Any]:
        self._used.add(name)
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors


def add_metadata(model: bytes, metadata: Mapping[str, str]) -> bytes:
    """Return `model` with entries of metadata after those that it has."""
    entries = (
        encode_field(_METADATA, encode_field(_KEY, key.encode()) + encode_field(_VALUE, v.encode()))
        for key, v in metadata.items()
    )
    return b"".join([model, *entries])


def fingerprint(model: bytes) -> str:
    """Hash weights and nodes as `exporters.graph.fingerprint` does, on which a model id ends."""
    (graph,) = (
        value
        for number, value in read_fields(memoryview(model))
        if number == _GRAPH and isinstance(value, memoryview)
    )
    fields = list(read_fields(graph))
    digest = hashlib.sha256()
    for part in (*_list_weights(fields), *_list_nodes(fields)):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _list_weights(graph: Iterable[Field]) -> Iterator[bytes]:
    weights = {}
    for number, value in graph:
        if number == _INITIALIZER and isinstance(value, memoryview):
            fields = list(read_fields(value))
            shape = tuple(length for each, length in fields if each == _DIMS)
            (kind,) = (each for field, each in fields if field == _DATA_TYPE)
            (raw,) = (each for field, each in fields if field == _RAW_DATA)
            name = _get_text(fields, _NAME)
            weights[name] = str((kind, shape)).encode() + bytes(raw)
    for name in sorted(weights):
        yield name.encode()
        yield weights[name]


def _list_nodes(graph: Iterable[Field]) -> Iterator[bytes]:
    for number, value in graph:
        if number == _NODE and isinstance(value, memoryview):
            fields = read_fields(value)
            yield encode_fields(
                field for field in fields if field[0] not in (_NODE_NAME, _NODE_DOC)
            )


def encode_fields(fields: Iterable[Field]) -> bytes:
    return b"".join(encode_field(number, value) for number, value in fields)


def _get_text(fields: Iterable[Field], number: int) -> str:
    values = (value for each, value in fields if each == number)
    return bytes(next((value for value in values if isinstance(value, memoryview)), b"")).decode()
