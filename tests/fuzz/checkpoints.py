"""Checkpoints of PyTorch, which `sayso models get --from` reads: only `ModelError` is documented.

`checkpoint` changes a whole file; `pickle` changes its pickle and puts that into a sound file, so
that no checksum keeps the reader from it.
"""

import io
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

from service.adoption.checkpoint import read_tensors
from service.errors import ModelError
from tests.fuzz.harness import stateless

INDEX = "archive/data.pkl"


def save(content: object) -> bytes:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@cache
def seeds() -> tuple[bytes, ...]:
    module = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 3), torch.nn.BatchNorm1d(3))
    return tuple(
        save(content)
        for content in (
            module.state_dict(),
            dict(module.state_dict()),
            {"flat": torch.zeros(0), "part": torch.arange(6.0).reshape(2, 3)[1:]},
            {"state_dict": module.state_dict(), "epoch": 3, "rates": [1e-3, None, True]},
        )
    )


def replace_index(checkpoint: bytes, index: bytes) -> bytes:
    """The same storages under another pickle, with right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            written = f"archive/{name.partition('/')[2]}"
            new.writestr(written, index if written == INDEX else old.read(name))
    return buffer.getvalue()


def read_index(checkpoint: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        return archive.read(name)


def read(checkpoint: bytes) -> object:
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        file.write(checkpoint)
        file.flush()
        return read_tensors(Path(file.name))


def check_checkpoint(data: bytes) -> None:
    try:
        tensors = read(data)
    except ModelError:
        return
    assert isinstance(tensors, dict)
    assert all(isinstance(tensor, np.ndarray) for tensor in tensors.values())


def check_pickle(data: bytes) -> None:
    check_checkpoint(replace_index(seeds()[0], data))


def list_pickles() -> Iterator[bytes]:
    return map(read_index, seeds())


HARNESSES = (
    stateless("checkpoint", check_checkpoint, seeds),
    stateless("pickle", check_pickle, list_pickles),
)
