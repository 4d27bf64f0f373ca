"""Checkpoints of other toolkits: plain tensors only, and exactly those of an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.encoders.names import translate
from training.errors import CheckpointError, first_line

COUNTER = "num_batches_tracked"
_WRAPPERS = ("model", "state_dict", "model_state")
_PREFIXES = ("module.", "spk_model.")
_HEADS = ("projection.", "classifier.")  # what training needs and an embedding does not
_SHOWN = 4

State = Mapping[str, Tensor]


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


def read_encoder(path: Path) -> dict[str, Tensor]:
    """The encoder's tensors in a checkpoint by the names of `training.encoders`, without what wraps
    them or serves training only; raises `CheckpointError`."""
    content = read(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    state = require_tensors(content, path)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return translate({name: t for name, t in state.items() if not name.startswith(_HEADS)})


def fill(module: nn.Module, state: State, *, architecture: str) -> None:
    """Load `state` into `module`; raises `CheckpointError` unless names and shapes agree.

    Buffers that only count batches may be missing.
    """
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in state and not name.endswith(COUNTER)]
    extra = [name for name in state if name not in wanted]
    if missing or extra:
        problems = [("lacks", missing), ("has beside them", extra)]
        details = "; ".join(f"it {verb} {_list(names)}" for verb, names in problems if names)
        raise CheckpointError(
            f"the checkpoint does not hold the weights of {architecture}: {details}"
        )
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"the checkpoint is of another {architecture}: {name} is {tuple(tensor.shape)}, "
                f"not {tuple(wanted[name].shape)}"
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"the checkpoint's {name} holds numbers that are not finite")
    module.load_state_dict(dict(state), strict=False)


def require_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """`content` as named tensors; raises `CheckpointError` when it is anything else."""
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds no named tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path} holds {name!r}, which is no tensor")
    return dict(content)


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
