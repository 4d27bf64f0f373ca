"""What an encoder costs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_accumulates(module: nn.Module, inputs: Tensor) -> int:
    """Of all convolution and linear layers, the front end's Fourier transform left out.

    One forward pass in evaluation mode over `inputs`.
    """
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv1d | nn.Linear):
            total += layer.weight[0].numel() * output.numel()

    hooks = [layer.register_forward_hook(count) for layer in module.modules()]
    try:
        with torch.inference_mode():
            module.eval()(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return total
