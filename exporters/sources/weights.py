"""The sizes in another toolkit's checkpoint, from which its encoder is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from exporters.errors import CheckpointError
from training import errors


@contextmanager
def export_errors() -> Iterator[None]:
    """Re-raise training's `CheckpointError` as this package's."""
    try:
        yield
    except errors.CheckpointError as error:
        raise CheckpointError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shapes of an encoder's weights by name."""

    state: Mapping[str, Tensor]
    architecture: str

    def size(self, name: str, axis: int = 0) -> int:
        """Read a size of a tensor; raises `CheckpointError` if there is no such tensor or axis."""
        if name not in self.state or self.state[name].ndim <= axis:
            raise CheckpointError(
                f"the checkpoint does not hold the weights of {self.architecture}: it lacks {name}"
            )
        return self.state[name].shape[axis]

    def __contains__(self, name: str) -> bool:
        return name in self.state
