"""What an encoder costs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, inputs: Tensor) -> int:
    """Of all convolutions and products of matrices, in one forward pass in evaluation mode.

    As many as `exporters.macs` counts in the exported graph.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(inputs)
    return int(counter.get_total_flops()) // 2
