"""The scale of cosines before a softmax, 1 / temperature, fixed or learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SMALLEST_SCALE, LARGEST_SCALE = 1.0, 100.0


def log_scale(scale: float, *, learned: bool) -> nn.Parameter:
    return nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learned)


def scale_of(parameter: nn.Parameter) -> Tensor:
    """exp of it, from 1 to 100; the parameter itself is put back to its limit.

    So the temperature, 0.01 to 1, turns round at a limit instead of losing its gradient beyond.
    """
    with torch.no_grad():
        parameter.clamp_(math.log(SMALLEST_SCALE), math.log(LARGEST_SCALE))
    return parameter.exp()
