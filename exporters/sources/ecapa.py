"""ECAPA-TDNN as WeSpeaker lays it out (Desplanques et al. 2020, arXiv 2005.07143)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporters.sources.pooling import AttentivePooling

_GROUPS = 8


class Convolved(nn.Module):
    """Convolution of the same length, ReLU, batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        normalised: Tensor = self.bn(self.conv(hidden).relu())
        return normalised


class Res2(nn.Module):
    """All groups but the last are convolved, each with its predecessor's output added."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width = channels // _GROUPS
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
            for _ in range(_GROUPS - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(_GROUPS - 1))

    def forward(self, hidden: Tensor) -> Tensor:
        *groups, last = hidden.chunk(_GROUPS, dim=1)
        outputs: list[Tensor] = []
        for conv, bn, group in zip(self.convs, self.bns, groups, strict=True):
            outputs.append(bn(conv(group + outputs[-1] if outputs else group).relu()))
        return torch.cat([*outputs, last], dim=1)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, 128)
        self.linear2 = nn.Linear(128, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        gains = self.linear2(self.linear1(hidden.mean(dim=2)).relu()).sigmoid()
        scaled: Tensor = hidden * gains.unsqueeze(2)
        return scaled


class SERes2Block(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.se_res2block = nn.Sequential(
            Convolved(channels, channels),
            Res2(channels, dilation),
            Convolved(channels, channels),
            SqueezeExcitation(channels),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        total: Tensor = hidden + self.se_res2block(hidden)
        return total


class EcapaTdnn(nn.Module):
    """(batch, frames, mels) -> (batch, dimension)."""

    def __init__(self, *, width: int, mels: int, dimension: int, context: bool) -> None:
        super().__init__()
        self.layer1 = Convolved(mels, width, 5)
        self.layer2 = SERes2Block(width, 2)
        self.layer3 = SERes2Block(width, 3)
        self.layer4 = SERes2Block(width, 4)
        self.conv = nn.Conv1d(3 * width, 3 * width, 1)
        self.pool = AttentivePooling(3 * width, bottleneck=128, context=context)
        self.bn = nn.BatchNorm1d(6 * width)
        self.linear = nn.Linear(6 * width, dimension)

    def forward(self, features: Tensor) -> Tensor:
        first = self.layer2(self.layer1(features.transpose(1, 2)))
        second = self.layer3(first)
        third = self.layer4(second)
        hidden = self.conv(torch.cat([first, second, third], dim=1)).relu()
        embedding: Tensor = self.linear(self.bn(self.pool(hidden)))
        return embedding
