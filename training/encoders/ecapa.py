"""ECAPA-TDNN: Desplanques, Thienpondt and Demuynck, Interspeech 2020, arXiv 2005.07143."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.encoders.pooling import AttentiveStatistics
from training.encoders.tdnn import ConvBlock


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
        self.frame_dim = 3 * width
        self.aggregate = nn.Sequential(nn.Conv1d(3 * width, 3 * width, 1), nn.ReLU())
        self.pool = AttentiveStatistics(3 * width)
        self.head = nn.Sequential(
            nn.BatchNorm1d(6 * width),
            nn.Linear(6 * width, embedding_dim),
            nn.BatchNorm1d(embedding_dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.head(self.pool(self.frames(features)))
        return embedding

    def frames(self, features: Tensor) -> Tensor:
        """(batch, mels, frames) -> (batch, frame_dim, ceil(frames / stride)), before pooling."""
        total = self.stem(features)
        outputs = []
        for block in self.blocks:
            output = block(total) + total
            outputs.append(output)
            total = total + output
        hidden: Tensor = self.aggregate(torch.cat(outputs, dim=1))
        return hidden
