"""ECAPA-TDNN: Desplanques, Thienpondt and Demuynck, Interspeech 2020, arXiv 2005.07143."""

from __future__ import annotations

import torch
from torch import Tensor, nn

VARIANCE_FLOOR = 1e-4


class ConvBlock(nn.Sequential):
    """Convolution, ReLU, batch norm: (batch, in, frames) -> (batch, out, ceil(frames / stride))."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1, stride: int = 1
    ) -> None:
        padding = dilation * (kernel - 1) // 2
        super().__init__(
            nn.Conv1d(inputs, outputs, kernel, stride, padding, dilation),
            nn.ReLU(),
            nn.BatchNorm1d(outputs),
        )


class Res2(nn.Module):
    """Channel groups convolved in turn, each given its predecessor's output (Gao et al. 2019)."""

    def __init__(self, channels: int, groups: int, dilation: int) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels do not divide into {groups} groups")
        self.groups = groups
        width = channels // groups
        self.blocks = nn.ModuleList(
            ConvBlock(width, width, kernel=3, dilation=dilation) for _ in range(groups - 1)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        first, second, *rest = hidden.chunk(self.groups, dim=1)
        outputs = [first, self.blocks[0](second)]
        for block, part in zip(list(self.blocks)[1:], rest, strict=True):
            outputs.append(block(part + outputs[-1]))
        return torch.cat(outputs, dim=1)


class SqueezeExcitation(nn.Module):
    """Channel gains from the mean over time (Hu et al. 2018)."""

    def __init__(self, channels: int, bottleneck: int = 128) -> None:
        super().__init__()
        self.gains = nn.Sequential(
            nn.Conv1d(channels, bottleneck, 1), nn.ReLU(), nn.Conv1d(bottleneck, channels, 1)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        gains: Tensor = self.gains(hidden.mean(dim=2, keepdim=True)).sigmoid()
        return hidden * gains


class SERes2Block(nn.Sequential):
    """Res2 between pointwise convolutions, then squeeze-excitation; the caller adds the input."""

    def __init__(self, channels: int, groups: int, dilation: int) -> None:
        super().__init__(
            ConvBlock(channels, channels),
            Res2(channels, groups, dilation),
            ConvBlock(channels, channels),
            SqueezeExcitation(channels),
        )


def mean_and_deviation(hidden: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted over time, (batch, channels, frames) -> two of (batch, channels, 1), float32."""
    hidden, weights = hidden.float(), weights.float()
    mean = (hidden * weights).sum(dim=2, keepdim=True)
    variance = ((hidden - mean).square() * weights).sum(dim=2, keepdim=True)
    return mean, variance.clamp(min=VARIANCE_FLOOR).sqrt()


class AttentiveStatistics(nn.Module):
    """Channel-wise attention over time, with global context: -> (batch, 2 * channels)."""

    def __init__(self, channels: int, bottleneck: int = 128) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            ConvBlock(3 * channels, bottleneck), nn.Tanh(), nn.Conv1d(bottleneck, channels, 1)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        uniform = torch.ones_like(hidden[:, :1]) / hidden.shape[2]
        mean, deviation = mean_and_deviation(hidden, uniform)
        context = torch.cat([hidden, mean.expand_as(hidden), deviation.expand_as(hidden)], dim=1)
        weights = self.attention(context).float().softmax(dim=2)  # (batch, channels, frames)
        return torch.cat(mean_and_deviation(hidden, weights), dim=1).squeeze(2)


class EcapaTdnn(nn.Module):
    """(batch, mels, frames) -> (batch, embedding_dim), not normalised.

    A `stride` of 2 in the first layer halves the frames, and with them the work; the paper has 1.
    """

    def __init__(
        self, *, mels: int, width: int, groups: int, stride: int, embedding_dim: int
    ) -> None:
        super().__init__()
        self.stem = ConvBlock(mels, width, kernel=5, stride=stride)
        self.blocks = nn.ModuleList(SERes2Block(width, groups, dilation) for dilation in (2, 3, 4))
        self.aggregate = nn.Sequential(nn.Conv1d(3 * width, 3 * width, 1), nn.ReLU())
        self.pool = AttentiveStatistics(3 * width)
        self.head = nn.Sequential(
            nn.BatchNorm1d(6 * width),
            nn.Linear(6 * width, embedding_dim),
            nn.BatchNorm1d(embedding_dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        total = self.stem(features)
        outputs = []
        for block in self.blocks:
            output = block(total) + total
            outputs.append(output)
            total = total + output
        hidden = self.aggregate(torch.cat(outputs, dim=1))  # (batch, 3 * width, frames)
        embedding: Tensor = self.head(self.pool(hidden))
        return embedding
