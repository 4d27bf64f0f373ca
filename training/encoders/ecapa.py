"""ECAPA-TDNN: Desplanques, Thienpondt and Demuynck, Interspeech 2020, arXiv 2005.07143.

Modules are named as in WeSpeaker's checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.encoders.pooling import VARIANCE_FLOOR, AttentiveStatistics
from training.encoders.tdnn import ConvBlock, Padding


@dataclass(frozen=True, slots=True)
class Layout:
    """In what implementations differ.

    summed            a block is given the sum of all before it, as in the paper, not the last alone
    context           attention sees the utterance's mean and deviation
    attention_norm    ReLU and batch norm in the attention
    aggregate_norm    batch norm after the blocks are joined
    output_norm       batch norm of the embedding
    floor, unbiased   how deviations are taken: see `training.encoders.pooling`
    padding           what convolutions over time see beyond the ends
    """

    summed: bool = False
    context: bool = True
    attention_norm: bool = False
    aggregate_norm: bool = False
    output_norm: bool = False
    floor: float = 1e-10
    unbiased: bool = True
    padding: Padding = "zeros"


SAYSO = Layout(
    summed=True, attention_norm=True, output_norm=True, floor=VARIANCE_FLOOR, unbiased=False
)
LAYOUTS: Mapping[str, Layout] = {
    "sayso": SAYSO,
    "wespeaker": Layout(context=False),
    "wespeaker-glob": Layout(),
    "speechbrain": Layout(
        attention_norm=True, aggregate_norm=True, floor=1e-12, unbiased=False, padding="reflect"
    ),
}


class Res2(nn.Module):
    """Channel groups convolved in turn, each given its predecessor's output, the last left as it
    is (Gao et al. 2019)."""

    def __init__(
        self, channels: int, groups: int, dilation: int, *, padding: Padding = "zeros"
    ) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels do not divide into {groups} groups")
        self.groups = groups
        width = channels // groups
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, padding_mode=padding)
            for _ in range(groups - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(groups - 1))

    def forward(self, hidden: Tensor) -> Tensor:
        *parts, last = hidden.chunk(self.groups, dim=1)
        outputs: list[Tensor] = []
        for conv, bn, part in zip(self.convs, self.bns, parts, strict=True):
            outputs.append(bn(conv(part + outputs[-1] if outputs else part).relu()))
        return torch.cat([*outputs, last], dim=1)


class SqueezeExcitation(nn.Module):
    """Channel gains from the mean over time (Hu et al. 2018)."""

    def __init__(self, channels: int, bottleneck: int = 128) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, bottleneck)
        self.linear2 = nn.Linear(bottleneck, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        gains: Tensor = self.linear2(self.linear1(hidden.mean(dim=2)).relu()).sigmoid()
        return hidden * gains.unsqueeze(2)


class SERes2Block(nn.Module):
    """Res2 between pointwise convolutions, then squeeze-excitation; the input is added."""

    def __init__(
        self, channels: int, groups: int, dilation: int, *, bottleneck: int, padding: Padding
    ) -> None:
        super().__init__()
        self.se_res2block = nn.Sequential(
            ConvBlock(channels, channels),
            Res2(channels, groups, dilation, padding=padding),
            ConvBlock(channels, channels),
            SqueezeExcitation(channels, bottleneck),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        total: Tensor = hidden + self.se_res2block(hidden)
        return total


class EcapaTdnn(nn.Module):
    """(batch, mels, frames) -> (batch, embedding_dim), not normalized.

    A `stride` of 2 in the first layer halves the frames, and with them the work; the paper has 1.
    """

    def __init__(
        self,
        *,
        mels: int,
        width: int,
        groups: int = 8,
        stride: int = 1,
        embedding_dim: int,
        layout: str = "sayso",
        attention: int = 128,
        excitation: int = 128,
    ) -> None:
        super().__init__()
        chosen = LAYOUTS[layout]
        self.summed = chosen.summed
        self.frame_dim = 3 * width
        self.layer1 = ConvBlock(mels, width, 5, stride=stride, padding=chosen.padding)
        for number, dilation in ((2, 2), (3, 3), (4, 4)):
            block = SERes2Block(
                width, groups, dilation, bottleneck=excitation, padding=chosen.padding
            )
            self.add_module(f"layer{number}", block)
        self.conv = nn.Conv1d(3 * width, 3 * width, 1)
        self.conv_norm = nn.BatchNorm1d(3 * width) if chosen.aggregate_norm else None
        self.pool = AttentiveStatistics(
            3 * width,
            attention,
            context=chosen.context,
            normalized=chosen.attention_norm,
            floor=chosen.floor,
            unbiased=chosen.unbiased,
        )
        self.bn = nn.BatchNorm1d(6 * width)
        self.linear = nn.Linear(6 * width, embedding_dim)
        self.output_norm = nn.BatchNorm1d(embedding_dim) if chosen.output_norm else None

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.linear(self.bn(self.pool(self.frames(features))))
        return embedding if self.output_norm is None else self.output_norm(embedding)

    def frames(self, features: Tensor) -> Tensor:
        """(batch, mels, frames) -> (batch, frame_dim, ceil(frames / stride)), before pooling."""
        given = self.layer1(features)
        outputs = []
        for name in ("layer2", "layer3", "layer4"):
            output = self.get_submodule(name)(given)  # (batch, width, frames)
            outputs.append(output)
            given = given + output if self.summed else output
        hidden: Tensor = self.conv(torch.cat(outputs, dim=1)).relu()
        return hidden if self.conv_norm is None else self.conv_norm(hidden)
