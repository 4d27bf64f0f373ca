"""Checkpoints of other toolkits: plain tensors only, and exactly those of the architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exporters.errors import CheckpointError

State = Mapping[str, Tensor]
_SHOWN = 4


def read(path: Path) -> Any:
    """What `path` holds, read without running code from it; raises `CheckpointError`."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # the unpickler raises anything at all on junk
        raise CheckpointError(
            f"{path} is not a checkpoint of plain tensors: {first_line(error)}"
        ) from error


def fill(module: nn.Module, state: State, *, architecture: str) -> None:
    """Loads `state` into `module`; raises `CheckpointError` unless names and shapes agree.

    Buffers that only count batches may be missing.
    """
    wanted = module.state_dict()
    missing = [
        name for name in wanted if name not in state and not name.endswith("num_batches_tracked")
    ]
    extra = [name for name in state if name not in wanted]
    if missing or extra:
        problems = [("lacks", missing), ("has beside them", extra)]
        told = "; ".join(f"it {verb} {_listed(names)}" for verb, names in problems if names)
        raise CheckpointError(f"the checkpoint does not hold the weights of {architecture}: {told}")
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"the checkpoint is of another {architecture}: {name} is {tuple(tensor.shape)}, "
                f"not {tuple(wanted[name].shape)}"
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"the checkpoint's {name} holds numbers that are not finite")
    module.load_state_dict(dict(state), strict=False)


def tensors(found: Any, path: Path) -> dict[str, Tensor]:
    """`found` as named tensors; raises `CheckpointError` when it is anything else."""
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{path} holds no named tensors")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path} holds {name!r}, which is no tensor")
    return dict(found)


def first_line(error: Exception) -> str:
    """An error in one line, whatever it says."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@dataclass(frozen=True, slots=True)
class Shapes:
    """The sizes in a checkpoint, from which its architecture is sized."""

    state: State
    architecture: str

    def size(self, name: str, axis: int = 0) -> int:
        """Raises `CheckpointError` when there is no such tensor or axis."""
        if name not in self.state or self.state[name].ndim <= axis:
            raise CheckpointError(
                f"the checkpoint does not hold the weights of {self.architecture}: it lacks {name}"
            )
        return self.state[name].shape[axis]

    def __contains__(self, name: str) -> bool:
        return name in self.state
