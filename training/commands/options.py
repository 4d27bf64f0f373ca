"""Arguments that several commands share, and the device that they name."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from training.errors import ConfigError

if TYPE_CHECKING:
    import torch

RecipeName = Annotated[
    str, typer.Argument(help="A recipe's TOML file, or the name of one in training/recipes.")
]


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def settle(device: Device, threads: int) -> torch.device:
    """Pick the device and make its kernels deterministic, so that a resumed run repeats itself."""
    import torch

    torch.set_flush_denormal(True)
    if threads:
        torch.set_num_threads(threads)
    has_cuda = torch.cuda.is_available()
    if device is Device.CUDA and not has_cuda:
        raise ConfigError("torch sees no CUDA device here")
    if device is Device.CPU or not has_cuda:
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda")
