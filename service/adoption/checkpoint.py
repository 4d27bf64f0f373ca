"""A PyTorch checkpoint's tensors, without PyTorch: a zip of one pickle and a file for each storage.

Nothing in the file is run, nothing larger than the file is allocated, and whatever is wrong with it
is a `ModelError`.
"""

import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.adoption.pickles import Storage, TensorView, read_pickle
from service.errors import ModelError

Tensors: TypeAlias = Mapping[str, NDArray[Any]]

_INDEX = "data.pkl"
_MAX_BYTES = 1 << 30
_DAMAGE = (
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, LookupError, ValueError),
    *(ArithmeticError, struct.error),
)


def read_tensors(path: Path) -> Tensors:
    """Read the named tensors of the checkpoint at `path`: float32 and int64, by name.

    Raises `ModelError` if it holds anything but a dictionary of them.
    """
    with _explain(path), zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.split("/")[1:] == [_INDEX]]
        if len(names) != 1:
            raise ModelError("it is no checkpoint as torch.save writes them")
        reader = _Reader(archive, names[0].removesuffix(_INDEX))
        content = read_pickle(reader.read(_INDEX))
        if not isinstance(content, dict) or not content:
            raise ModelError("it holds no named tensors")
        return {name: reader.make_tensor(name, view) for name, view in content.items()}


@contextmanager
def _explain(path: Path) -> Iterator[None]:
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path} cannot be taken: {error}") from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except _DAMAGE as error:
        raise ModelError(f"{path} is damaged, or no checkpoint of PyTorch: {error}") from error


class _Reader:
    """The entries of a checkpoint under `prefix`; each storage is read once."""

    def __init__(self, archive: zipfile.ZipFile, prefix: str) -> None:
        self._archive = archive
        self._prefix = prefix
        self._storages: dict[Storage, NDArray[Any]] = {}
        self._bytes = 0

    def read(self, name: str) -> bytes:
        """Read an entry; raises `ModelError` for one that is compressed, as a small file could then
        be made to fill the memory."""
        entry = self._archive.getinfo(self._prefix + name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ModelError("it is compressed, which torch.save never does")
        self._bytes += entry.file_size
        if self._bytes > _MAX_BYTES:
            raise ModelError(f"it holds more than {_MAX_BYTES >> 30} GiB")
        return self._archive.read(entry)

    def make_tensor(self, name: str, view: object) -> NDArray[Any]:
        """Return the numbers of `view` in its shape."""
        if not isinstance(view, TensorView):
            raise ModelError("it holds something beside its tensors: take its state_dict")
        values, count = self._read_storage(view.storage), math.prod(view.size)
        if view.offset + count > len(values) or not _is_contiguous(view):
            raise ModelError(f"its tensor {name[:80]!r} does not fit in its storage")
        return values[view.offset : view.offset + count].reshape(view.size)

    def _read_storage(self, storage: Storage) -> NDArray[Any]:
        if storage not in self._storages:
            values = np.frombuffer(self.read(f"data/{storage.key}"), storage.dtype)
            if len(values) != storage.count:
                raise ModelError("one of its storages has another size than its index says")
            self._storages[storage] = values
        return self._storages[storage]


def _is_contiguous(view: TensorView) -> bool:
    """Whether the last axis runs fastest and nothing is left out; axes of length 1 do not count."""
    if len(view.size) != len(view.stride):
        return False
    expected = 1
    for length, step in zip(reversed(view.size), reversed(view.stride), strict=True):
        if length != 1 and step != expected:
            return False
        expected *= length
    return True
