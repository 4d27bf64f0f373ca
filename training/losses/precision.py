"""Losses are computed on unit vectors in float32, whatever the encoder's precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Loss = TypeVar("Loss", bound=nn.Module)


def in_float32(
    forward: Callable[[Loss, Tensor, Tensor], Tensor],
) -> Callable[[Loss, Tensor, Tensor], Tensor]:
    """Give a loss float32 embeddings (batch, dim), made unit length again, and no autocast.

    Rounded to bfloat16, unit vectors are up to 0.4% off their length: equal ones would seem apart.
    """

    @wraps(forward)
    def run(loss: Loss, embeddings: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            return forward(loss, functional.normalize(embeddings.float(), dim=1), labels)

    return run
