"""What an encoder costs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.frontend import LogMel


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_accumulates(module: nn.Module, inputs: Tensor) -> int:
    """Of all convolutions, linear layers and front ends, in one forward pass in evaluation mode.

    As many as `exporters.macs` counts in the exported graph.
    """
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            total += layer.weight[0].numel() * output.numel()
        elif isinstance(layer, LogMel):
            frames = output[:, 0].numel()
            total += frames * (layer.bases.numel() + layer.filters.numel())

    hooks = [layer.register_forward_hook(count) for layer in module.modules()]
    try:
        with torch.inference_mode():
            module.eval()(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return total
