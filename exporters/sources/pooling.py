"""Statistics over time that encoders end in; names of submodules are those of checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mean_and_deviation(hidden: Tensor, floor: float = 1e-8) -> Tensor:
    """(batch, ..., frames) -> (batch, 2 * ...), the unbiased deviation second."""
    deviation = (hidden.var(dim=-1) + floor).sqrt()
    return torch.cat([hidden.mean(dim=-1).flatten(1), deviation.flatten(1)], dim=1)


class AttentivePooling(nn.Module):
    """Attentive statistics (Okabe et al. 2018), with global context where asked:
    (batch, channels, frames) -> (batch, 2 * channels)."""

    def __init__(self, channels: int, *, bottleneck: int, context: bool) -> None:
        super().__init__()
        self.context = context
        self.linear1 = nn.Conv1d(channels * (3 if context else 1), bottleneck, 1)
        self.linear2 = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        seen = hidden
        if self.context:
            mean = hidden.mean(dim=2, keepdim=True).expand_as(hidden)
            deviation = (hidden.var(dim=2, keepdim=True) + 1e-10).sqrt().expand_as(hidden)
            seen = torch.cat([hidden, mean, deviation], dim=1)
        weights = self.linear2(self.linear1(seen).tanh()).softmax(dim=2)
        mean = (weights * hidden).sum(dim=2)
        variance = (weights * hidden.square()).sum(dim=2) - mean.square()
        return torch.cat([mean, variance.clamp(min=1e-10).sqrt()], dim=1)
